"""Zips pool3/, udfs/ and jobs/ for --py-files: source and data files, no caches.

usage: application_zip.py REPOSITORY TARGET.zip
"""

import sys
import zipfile
from pathlib import Path

PACKAGES = ("pool3", "udfs", "jobs")


def application_zip(repository: Path, target: Path) -> None:
    """Write the application's packages to `target`, sorted, so that equal sources order equally."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for path in sorted((repository / package).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    archive.write(path, path.relative_to(repository))


if __name__ == "__main__":
    application_zip(Path(sys.argv[1]), Path(sys.argv[2]))
