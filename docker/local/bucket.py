"""Make a bucket on a local S3 server once it answers: python bucket.py ENDPOINT_URL BUCKET

Runs in the compute image; credentials come from the environment.
"""

import sys

import boto3
from botocore.config import Config

PATIENT = Config(
    s3={"addressing_style": "path"}, connect_timeout=2, retries={"mode": "standard", "total_max_attempts": 10}
)


def main(endpoint_url: str, bucket: str) -> None:
    client = boto3.client("s3", endpoint_url=endpoint_url, region_name="us-east-1", config=PATIENT)
    if bucket not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=bucket)
    print(f"{endpoint_url} has the bucket {bucket}")


if __name__ == "__main__":
    main(*sys.argv[1:])
