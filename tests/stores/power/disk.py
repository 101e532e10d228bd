"""A disk that can lose its power: what the calls of a program left in memory, and which of that a power cut may take.

Kept apart for each file and directory is what is durable and what only waits. Of what waits any subset may have reached the
disk, in any order and a write in the middle torn, unless a sync has waited for it. That is more than file systems do to a
program, which order at least the names: what survives this survives them.
"""

import codecs
import os
import random
import re

CALL = re.compile(rb"^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$", re.DOTALL)
RESULT = re.compile(rb"\) += (\d+)(?:<.*>)?$")
ANSWER = re.compile(rb"HTTP/1\.1 (2\d\d) ")
REQUEST_ID = re.compile(rb"x-amz-request-id: *([^\r\n\\]+)", re.IGNORECASE)
SECTOR = 512

WATCHED = (
    "openat,close,write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync,rename,renameat,renameat2,link,linkat,"
    "unlink,unlinkat,rmdir,mkdir,mkdirat,ftruncate,fallocate,copy_file_range,sendfile,splice"
)
# Known to the strace above, and to nothing below: were one used, the model would not be the program's disk any more.
UNKNOWN = {"pwritev", "fallocate", "copy_file_range", "sendfile", "splice"}


class File:
    def __init__(self):
        self.durable, self.waiting = bytearray(), []

    def sync(self, began):
        for time, change in self.waiting:
            if time <= began:
                change_bytes(self.durable, *change)
        self.waiting = [waits for waits in self.waiting if waits[0] > began]

    def after(self, cut):
        content = bytearray(self.durable)
        for time, (offset, data) in self.waiting:
            if cut.keeps(time):
                change_bytes(content, offset, cut.torn(data))
        return content


def descriptor(arguments):
    """The number of the open file that a call names first; -1 if it names none."""
    return int(re.match(rb"\d*", arguments)[0] or -1)


def change_bytes(content, offset, data):
    """A write of bytes, or a new length where there are none."""
    if data is None:
        del content[offset:]
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    if data is not None:
        content[offset : offset + len(data)] = data


class Directory:
    def __init__(self):
        self.durable, self.now, self.waiting = {}, {}, []

    def sync(self, began):
        for change in self.waiting:
            if change.time <= began:
                change.durable = True
        self.settle()

    def settle(self):
        # A rename between two directories is durable in both at once.
        for change in self.waiting:
            if change.durable:
                change.make(self, self.durable)
        self.waiting = [change for change in self.waiting if not change.durable]

    def after(self, cut):
        self.settle()
        names = dict(self.durable)
        for change in self.waiting:
            if cut.keeps_all_of(change):
                change.make(self, names)
        return names


class Change:
    """Names that come and go together: [(directory, name, node or None)]."""

    def __init__(self, time, names):
        self.time, self.names, self.durable = time, names, False
        for directory in {id(directory): directory for directory, _, _ in names}.values():
            directory.waiting.append(self)
            self.make(directory, directory.now)

    def make(self, directory, names):
        for where, name, node in self.names:
            if where is directory and node is None:
                names.pop(name, None)
            elif where is directory:
                names[name] = node


class Cut:
    """One way in which the power may go: `share` of what waits is kept, or only the `newest`, which a sync should have held up."""

    def __init__(self, seed, share, newest=None):
        self.random, self.share, self.newest, self.changes = random.Random(seed), share, newest, {}

    def keeps(self, time):
        return time == self.newest if self.share is None else self.random.random() < self.share

    def keeps_all_of(self, change):
        """The same for each directory that has a part in it."""
        return self.changes.setdefault(id(change), self.keeps(change.time))

    def torn(self, data):
        """What is kept of a write: mostly all; else its first sectors."""
        if not data or self.share in (None, 0, 1) or self.random.random() < 0.8:
            return data
        return data[: self.random.randrange(0, len(data), SECTOR)]


class Disk:
    """Follows the calls in a trace by strace, one line after the other."""

    def __init__(self, home):
        self.home, self.top = os.path.normpath(home).encode(), Directory()
        self.time, self.answered, self.changed = 0, [], None
        self.files, self.positions, self.begun = {}, {}, {}

    def follow(self, line):
        """Takes a line in; what is otherwise now: answers, names, bytes, what is synced, or nothing."""
        found = CALL.match(line)
        self.changed = None
        if not found:
            return None
        thread, resumed, name, rest = found.groups()
        if resumed:
            begun, began = self.begun.pop(thread, (b"", self.time))
            name, rest = resumed, begun + rest
        elif rest.endswith(b" <unfinished ...>"):
            rest = rest.removesuffix(b" <unfinished ...>")
            self.begun[thread] = (rest, self.time)
            self.begin(name, rest)
            return self.changed
        else:
            began = self.time
            self.begin(name, rest)
        result = RESULT.search(rest)
        if result:
            self.done(name.decode(), rest[: result.start()], int(result[1]), began)
        return self.changed

    def begin(self, name, rest):
        """What counts from the moment at which the program begins a call.

        An answer, which may be on its way then. And a number that is let go: another thread may be given it, and be seen to
        have it, before it is seen that the call that let it go has ended.
        """
        if name == b"close":
            self.files.pop(descriptor(rest), None)
        elif name in (b"write", b"writev", b"sendto", b"sendmsg") and b"<socket:" in rest[:60] and ANSWER.search(rest):
            text = codecs.escape_decode(REQUEST_ID.search(rest)[1])[0]
            self.answered.append(text.decode().strip())
            self.changed = "answers"

    def done(self, name, arguments, result, began):
        number = descriptor(arguments)
        node = self.files.get(number)
        if name == "openat":
            self.open(arguments, result)
        elif name in ("fsync", "fdatasync"):
            if node:
                node.sync(began)
                self.changed = "synced"
        elif name in ("write", "pwrite64", "ftruncate", *UNKNOWN):
            if isinstance(node, File) and b"<socket:" not in arguments[:60]:
                self.write(name, node, number, arguments, result)
        elif name in ("mkdir", "mkdirat"):
            self.rename([self.place(path) + (Directory(),) for path in self.paths(arguments)])
        elif name.startswith("rename"):
            old, new = self.paths(arguments)
            (directory, old_name), (other, new_name) = self.place(old), self.place(new)
            if directory:
                self.rename([(directory, old_name, None), (other, new_name, directory.now[old_name])])
        elif name.startswith("link"):
            old, new = map(self.place, self.paths(arguments))
            self.rename([(*new, old[0].now[old[1]])])
        elif name in ("unlink", "unlinkat", "rmdir"):
            self.rename([self.place(path) + (None,) for path in self.paths(arguments)])

    def open(self, arguments, number):
        self.files.pop(number, None)
        path = self.paths(arguments)[0]
        if path == self.home:
            self.files[number] = self.top
            return
        directory, name = self.place(path)
        if directory is None:
            return
        node = directory.now.get(name)
        if node is None and b"O_CREAT" in arguments:
            node = File()
            self.rename([(directory, name, node)])
        elif b"O_TRUNC" in arguments:
            self.wait(node, (0, None))
        self.files[number], self.positions[number] = node, 0

    def write(self, name, file, number, arguments, result):
        if name in UNKNOWN:
            raise NotImplementedError(f"the store writes by {name}, which this model does not know")
        if name == "ftruncate":
            self.wait(file, (int(arguments.rpartition(b",")[2]), None))
            return
        data = codecs.escape_decode(arguments[arguments.index(b'"') + 1 : arguments.rindex(b'"')])[0][:result]
        if name == "write":
            offset = self.positions[number]
            self.positions[number] += result
        else:
            offset = int(arguments.rpartition(b",")[2])
        self.wait(file, (offset, data))

    def wait(self, file, change):
        self.time += 1
        file.waiting.append((self.time, change))
        self.changed = "bytes"

    def rename(self, names):
        names = [change for change in names if change[0] is not None]
        if names:
            self.time += 1
            Change(self.time, names)
            self.changed = "names"

    def paths(self, arguments):
        """The paths among the arguments; one that begins at an open directory is told from the top."""
        found = re.findall(rb'(?:(\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"', arguments)
        paths = [os.path.join(directory, codecs.escape_decode(path)[0]) for _, directory, path in found]
        return [os.path.normpath(path) for path in paths]

    def place(self, path):
        """The directory that a path's last name is in, and that name; none for what is elsewhere."""
        if not path.startswith(self.home + b"/"):
            return None, None
        *above, name = path[len(self.home) + 1 :].split(b"/")
        directory = self.top
        for step in above:
            directory = directory.now.get(step)
            if directory is None:
                return None, None
        return directory, name

    def leave(self, where, cut):
        """Writes below `where` what is there after this power cut."""
        contents = {}

        def write(path, node):
            if isinstance(node, Directory):
                os.mkdir(path)
                for name, below in node.after(cut).items():
                    write(os.path.join(path, name), below)
            else:
                # Two names of one file lose the same.
                content = contents.setdefault(id(node), node.after(cut))
                with open(path, "wb") as file:
                    file.write(content)

        write(os.fsencode(where), self.top)
