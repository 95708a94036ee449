"""The `slowfast` command.

A package of its own beside `slowfast_mllm`, whose import loads transformers: the command line
imports it inside the verbs, so that `slowfast --help` stays instant.
"""
