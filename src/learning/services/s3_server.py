"""S3, or what speaks its protocol."""

import secrets
from typing import Any
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from .server import Place, Server, wait_for

BUCKET = "learning"
"""The bucket that every server has. Names of buckets are the server's own: ours harms nobody's."""

REGION = "us-east-1"

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""The environment variables in which all S3 clients, and SeaweedFS, look for their keys."""

NO_PROFILE = {"profile": (None, None, None, None)}

PATIENCE = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})


class S3(Server):
    """An S3 server with a bucket.

    Its URL is `s3://KEY:SECRET@BUCKET?endpoint_url=http://…`. In the environment `S3_ENDPOINT_URL` is the endpoint, and
    the keys are where all S3 clients look for them: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    """

    title = "S3"
    variable = "S3_ENDPOINT_URL"
    companions = KEYS

    bucket = BUCKET

    @property
    def url(self) -> str:
        """Where it is, with the keys and the bucket."""
        keys = [quote(self.environment[name], safe="") for name in KEYS if name in self.environment]
        return f"s3://{':'.join(keys)}{'@' if keys else ''}{self.bucket}?endpoint_url={self.environment[self.variable]}"

    def client(self, **options: Any) -> Any:
        """A boto3 client; `options` are those of `boto3.client`."""
        key, secret = (self.environment.get(name) for name in KEYS)
        own: dict[str, Any] = {"endpoint_url": self.environment[self.variable], "region_name": REGION}
        own |= {"aws_access_key_id": key, "aws_secret_access_key": secret}
        # A profile or a proxy of the user's environment is for another server than this one.
        session = boto3.Session(botocore_session=Session(session_vars=NO_PROFILE if key else None))
        config = Config(proxies={}).merge(options.pop("config", Config()))
        return session.client("s3", config=config, **own | options)

    def ready(self) -> bool:
        """Whether it answers and takes writes; makes the bucket if it is not there."""
        try:
            client = self.client(config=PATIENCE)
            if self.bucket not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=self.bucket)
            client.put_object(Bucket=self.bucket, Key=".ready", Body=b"1")  # SeaweedFS makes its volumes for it
            client.delete_object(Bucket=self.bucket, Key=".ready")
        except (BotoCoreError, ClientError):
            return False
        return True


def start_s3(place: Place) -> S3:
    """Start a server for a pair of keys made for it."""
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    node, endpoint = place.s3(key, secret)
    server = S3({"S3_ENDPOINT_URL": endpoint, **keys(key, secret)}, [node])
    wait_for(server.ready, "S3 answers", starting=[node])
    return server


def keys(key: str, secret: str) -> dict[str, str]:
    """The environment of a client or a server for this pair of keys."""
    return dict(zip(KEYS, (key, secret), strict=True))
