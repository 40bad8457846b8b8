"""A person at the keyboard of `portcullis demo`: a terminal of its own, keys one by one.

  demo_keys.py PORTCULLIS DIR WORD KEY...

Prints what came on the screen after each key, until the word of that key stood there: `e` an edit (EDITOR adds the refund to
the policy), `s` the suggestion, `t` one decision, `q` the end. The last line is how it ended and whether the terminal is as before.
"""

import json
import os
import pty
import select
import sys
import termios
import time

program, directory, *keys = sys.argv[1:]
WORDS = {"e": ["policies v2 in force"], "s": ["suggest --write policies", "policies v2 in force"], "t": ["shop.Orders/Get", "shop.Orders/Get"], "?": ["t tail"]}

editor = os.path.join(directory, "editor")
with open(editor, "w") as script:
    script.write("""#!/bin/sh
[ "$1" = --wait ] || exit 9
stty -a | grep -q ' icanon' || exit 8
sed -i 's|Method::"shop.Orders/List"|Method::"shop.Orders/List", Method::"shop.Orders/Refund"|' "$2"
""")
os.chmod(editor, 0o755)

child, terminal = pty.fork()
if child == 0:
    environment = {**os.environ, "TERM": "xterm", "EDITOR": f"{editor} --wait"}
    for name in ("VISUAL", "NO_COLOR"):
        environment.pop(name, None)
    os.execve(program, [program, "demo", "--dir", directory], environment)
before = termios.tcgetattr(terminal)


def until(words, seconds=60):
    """What is on the screen, until all words stood there in turn."""
    shown, end = "", time.time() + seconds
    while words and time.time() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                shown += os.read(terminal, 65536).decode(errors="replace")
            except OSError:
                break
        at = 0
        for word in words:
            at = shown.find(word, at)
            if at < 0:
                break
        else:
            return shown
    raise SystemExit(f"never on the screen: {words}\n{shown}")


def counts(shown):
    """The last counters on the screen."""
    line = shown.rsplit("allowed ", 1)[1].split()
    return int(line[0]), int(line[2])


print(json.dumps({"begun": until(["gateway listening on tcp://", "quic://", "q quit"])}), flush=True)
raw = termios.tcgetattr(terminal)[3] & termios.ICANON == 0
for key in keys:
    os.write(terminal, key.encode())
    if key == "q":
        break
    shown = until(WORDS[key])
    denied = []
    if key in "es":
        # Twice a line of counters, after which nothing is refused any more.
        until(["allowed ", "q quit"])
        for _ in range(2):
            denied.append(counts(until(["allowed ", "denied ", "q quit"])))
    print(json.dumps({"key": key, "shown": shown, "counts": denied}), flush=True)

end, status = time.time() + 30, None
while time.time() < end and status is None:
    if select.select([terminal], [], [], 0.1)[0]:
        try:
            os.read(terminal, 65536)
        except OSError:
            pass
    ended, code = os.waitpid(child, os.WNOHANG)
    status = os.waitstatus_to_exitcode(code) if ended else None
print(json.dumps({"ended": status, "raw": raw, "restored": termios.tcgetattr(terminal)[3] == before[3]}), flush=True)
