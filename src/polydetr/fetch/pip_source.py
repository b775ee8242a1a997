"""Run as a script by ``wheels.py``: asks pip where a source archive lies and saves it, byte for byte.

``pip download`` would run the archive's build step to learn its dependencies; nothing of the archive may run here, so
this asks the same command object for its session and its index, which carry pip's whole configuration (index, links,
proxy, certificates, credentials, ``file:`` indexes), and copies the one file. Call: ``python pip_source.py PROJECT
FILENAME DESTINATION``.
"""

from __future__ import annotations

import sys


def main(project: str, filename: str, destination: str) -> int:
    """Saves ``filename`` of ``project`` as ``destination``; returns 0, or 1 with a reason on standard error."""
    from pip._internal.commands.download import DownloadCommand

    command = DownloadCommand("download", "")
    options, _ = command.parse_args(["--no-deps", "--no-input", "--ignore-requires-python", project])
    with command.main_context():
        session = command.get_default_session(options)
        finder = command._build_package_finder(options=options, session=session, ignore_requires_python=True)
        links = {c.link.filename: c.link for c in finder.find_all_candidates(project)}
        if filename not in links:
            print(f"ERROR: the index offers no {filename}; it offers {sorted(links) or 'nothing'}", file=sys.stderr)
            return 1
        # identity: an index that compresses on the wire would make requests unpack the archive on the fly
        answer = session.get(links[filename].url_without_fragment, stream=True, headers={"Accept-Encoding": "identity"})
        answer.raise_for_status()
        with open(destination, "wb") as file:
            for chunk in answer.iter_content(1 << 20):
                file.write(chunk)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
