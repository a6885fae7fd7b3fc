"""Write a text file as a C string, a line a line: `text.py manual.txt > manual.gen.h`."""

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    print("\n".join(json.dumps(line) for line in Path(sys.argv[1]).read_text(encoding="ascii").splitlines(keepends=True)))
