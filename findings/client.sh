#!/usr/bin/env bash
# uvicorn shuts down gracefully at SIGTERM (lifespan and all), and then ends by that signal itself:
# whoever waits for it sees -15 (143 in a shell), not the 0 that one would expect. Scripts, CI and supervisors that take any
# status but 0 for a crash are told of one after each orderly end. Seen with uvicorn 0.54.0.
# Exits non-zero if that changes.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check uvicorn==0.54.0
cat > "$place/app.py" <<'PY'
async def app(scope, receive, send):
    """A server that does nothing but say that it has ended in good order."""
    assert scope["type"] == "lifespan"
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            print("ended in good order", flush=True)
            return
PY
cat > "$place/run.py" <<'PY'
import signal, subprocess, sys, time

command = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0", "--log-level", "info"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
lines = []
for line in server.stdout:
    lines.append(line.strip())
    if "running on" in line:
        server.send_signal(signal.SIGTERM)
code = server.wait()
print(*lines, f"exit status: {code}", sep="\n")
expected = code == -signal.SIGTERM and "ended in good order" in lines
sys.exit(not expected)
PY
cd "$place"
venv/bin/python -c "import uvicorn; print('uvicorn', uvicorn.__version__)"
venv/bin/python run.py
