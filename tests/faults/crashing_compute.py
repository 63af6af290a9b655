"""`python -m compute`, killed at the point that the environment names: see points.py."""

import os

from tests.faults.points import Points, count_commits, wrap

if __name__ == "__main__":
    points = Points()
    count_commits(points)
    # A file is put by link(2) and by taking its temporary name away; unlink(2) also deletes.
    for name in ("link", "unlink"):
        wrap(points, os, name, f"file {name}")
    from compute.__main__ import main
    from compute.storage.s3requests import S3Requests

    wrap(points, S3Requests, "put_new", "S3 PUT")
    wrap(points, S3Requests, "delete", "S3 DELETE")
    main()
