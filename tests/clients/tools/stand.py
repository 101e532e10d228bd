"""What the clients' files share: the store that is running, the tools and their surroundings, files to send, judgements."""

import hashlib
import http.client
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
MIB = 1 << 20
HOUR_AGO = time.time() - 3600
# Of the person's own surroundings the tools get no more than this.
KEPT = ("PATH", "TMPDIR", "CARGO_TARGET_DIR", "RUST_LOG", "RUST_BACKTRACE")


class Difference(Exception):
    """Something was not as it has to be."""


def expect(condition, text):
    if not condition:
        raise Difference(text)


def forget_the_user(directory):
    """From here on, for boto3 in this process too, there are no settings but those below `directory`."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    home = directory / "home"
    home.mkdir()
    os.environ.clear()
    os.environ.update(
        kept,
        HOME=str(home),
        XDG_CONFIG_HOME=str(home / ".config"),
        LC_ALL="C.UTF-8",
        NO_PROXY="*",
        AWS_CONFIG_FILE=str(home / "aws-config"),
        AWS_SHARED_CREDENTIALS_FILE=str(home / "aws-credentials"),
        AWS_EC2_METADATA_DISABLED="true",
        RCLONE_CONFIG=str(home / "rclone.conf"),
        PYTHONDONTWRITEBYTECODE="1",
    )


def send(method, url, body=None, headers=None):
    """A request by somebody who has no keys, with nothing but the standard library; its status and body."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


class Stand:
    """The store as a person starts it, on a free port, and what the clients need to reach it."""

    def __init__(self, directory, build, verbose):
        self.directory, self.program, self.verbose = directory, TARGET / build / "store", verbose
        self.passed, self.left_out = 0, []
        self.home = pathlib.Path(os.environ["HOME"])

    def __enter__(self):
        self.log = open(self.directory / "store.log", "w+")
        self.told = open(self.directory / "store.env", "w+")
        command = [self.program, "serve", self.directory / "data", "--listen", "127.0.0.1:0", "--bucket", "first-bucket"]
        print("$", shlex.join(map(str, command)), flush=True)
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.told, stderr=self.log)
        try:
            self.wait_until_told()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_until_told(self):
        """Reads the lines that the store exports once it serves."""
        for _ in range(600):
            self.told.seek(0)
            lines = self.told.read()
            if "export AWS_DEFAULT_REGION=" in lines and lines.endswith("\n"):  # the last one
                break
            if self.process.poll() is not None:
                sys.exit("the store did not start:\n" + self.end_of_log())
            time.sleep(0.05)
        else:
            sys.exit("the store did not tell how to reach it:\n" + self.end_of_log())
        words = dict(word.split("=", 1) for word in shlex.split(lines) if "=" in word)
        self.endpoint, self.region = words["AWS_ENDPOINT_URL_S3"], words["AWS_REGION"]
        self.key, self.secret = words["AWS_ACCESS_KEY_ID"], words["AWS_SECRET_ACCESS_KEY"]
        self.host = self.endpoint.removeprefix("http://")
        os.environ.update(words)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.told.close()

    def end_of_log(self):
        self.log.flush()
        return (self.directory / "store.log").read_text(errors="replace")[-1500:]

    def ok(self, text):
        self.passed += 1
        print(f"ok    {text}", flush=True)

    def leave_out(self, what, why):
        self.left_out.append(f"{what}: {why}")
        print(f"left out: {what}: {why}", flush=True)

    def tool(self, name):
        """Where a program is: beside this Python, or on the PATH."""
        beside = pathlib.Path(sys.executable).parent / name
        return str(beside) if beside.exists() else shutil.which(name)

    def run(self, *command, given=None, environment=None, timeout=120, status=(0,)):
        """Runs a tool to its end, which has to be with one of these statuses; what it wrote. The time limit finds what hangs."""
        command = [self.tool(command[0]), *map(str, command[1:])]
        shown = shlex.join(command)
        if self.verbose:
            print("$", shown, flush=True)
        try:
            done = subprocess.run(
                command,
                input=given,
                stdin=subprocess.DEVNULL if given is None else None,
                env={**os.environ, **(environment or {})},
                cwd=self.home,
                capture_output=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as late:
            output = ((late.stdout or b"") + (late.stderr or b"")).decode(errors="replace")
            raise Difference(f"{shown}\nwas not done after {timeout} s, and had written:\n{output[-3000:]}") from None
        output = (done.stdout + done.stderr).decode(errors="replace")
        ended = f"{shown}\nended with {done.returncode}, not one of {status}, and wrote:\n{output[-3000:]}"
        expect(done.returncode in status, ended)
        return Output(shown, done.stdout, output)

    def request(self, method, target, headers=None, body=b""):
        """One request, byte for byte as told; its answer."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in {"Host": self.host, "Content-Length": str(len(body)), **(headers or {})}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(f"{method} {target}", answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def make_file(self, name, size):
        path = self.directory / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
        os.utime(path, (HOUR_AGO, HOUR_AGO))
        return path

    def make_tree(self, name):
        """A directory as people have them: empty files, deep ones, odd names, one that is sent in parts."""
        sizes = {
            "empty": 0,
            "also empty.txt": 0,
            "one-byte": 1,
            "deep/er/still/empty": 0,
            "deep/er/file.bin": 70_001,
            "ünï cödé +&=%.bin": 5000,
            "a (1) 'quoted'~!.txt": 12,
            "deep/12MiB.bin": 12 * MIB + 7,
        }
        for path, size in sizes.items():
            self.make_file(f"{name}/{path}", size)
        return self.directory / "files" / name


class Output:
    """What a tool wrote."""

    def __init__(self, shown, standard_output, both):
        self.shown, self.bytes, self.text = shown, standard_output, both

    def __str__(self):
        return f"{self.shown}\nwrote:\n{self.text[-3000:]}"

    def expect(self, *parts):
        for part in parts:
            expect(part in self.text, f"there is no {part!r} in what\n{self}")
        return self

    def expect_not(self, *parts):
        for part in parts:
            expect(part not in self.text, f"there is {part!r} in what\n{self}")
        return self


class Answer:
    """What the store answered to one request."""

    def __init__(self, shown, status, headers, body):
        self.shown, self.status, self.body = shown, status, body
        self.headers = {name.lower(): value for name, value in headers.items()}

    @property
    def text(self):
        return self.body.decode(errors="replace")

    def expect(self, status, *parts, **headers):
        said = f"{self.shown}\nanswered {self.status} {self.headers}\n{self.text[:2000]}"
        expect(self.status == status, f"not {status}: {said}")
        for part in parts:
            expect(part in self.text, f"no {part!r}: {said}")
        for name, value in headers.items():
            expect(self.headers.get(name.replace("_", "-")) == value, f"{name} is not {value!r}: {said}")
        return self


def digests(directory):
    """Name -> MD5 of every file in a tree."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def expect_equal_trees(sent, back):
    expect(digests(sent) == digests(back), f"what came back differs:\nsent {digests(sent)}\nback {digests(back)}")


def expect_file(got, path, what):
    expect(got == path.read_bytes(), f"{what}: {len(got)} bytes that are not those of {path}")
