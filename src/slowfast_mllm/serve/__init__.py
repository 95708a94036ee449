"""The HTTP API, in OpenAI's form, and the page: `app.create_app` makes both of a loaded model.

Nothing is imported here: the processes that decode videos need little of it.
"""
