"""s5cmd: many at once."""

from .boto import client
from .stand import expect, expect_equal_trees, expect_file

NEEDS = ["s5cmd"]


def run(stand):
    s3, remote = client(stand), "s3://s5cmd-bucket"

    def s5cmd(*words, **more):
        return stand.run("s5cmd", "--endpoint-url", stand.endpoint, "--retry-count", "0", *words, **more).expect_not("ERROR")

    s5cmd("mb", remote)
    tree = stand.make_tree("s5cmd/tree")
    s5cmd("cp", f"{tree}/", f"{remote}/tree/").expect("empty")
    s5cmd("ls", f"{remote}/tree/").expect("DIR  deep/", "one-byte")
    s5cmd("cp", f"{remote}/tree/*", f"{stand.home}/s5cmd-back/")
    expect_equal_trees(tree, stand.home / "s5cmd-back")
    large = stand.make_file("s5cmd/60MiB.bin", 60 << 20)  # in two parts, by s5cmd's own 50 MiB
    s5cmd("cp", large, f"{remote}/large")
    expect_file(s3.get_object(Bucket="s5cmd-bucket", Key="large")["Body"].read(), large, "s5cmd cp")
    s5cmd("sync", f"{tree}/", f"{remote}/tree/").expect_not("cp ")
    s5cmd("rm", f"{remote}/*")
    expect("Contents" not in s3.list_objects_v2(Bucket="s5cmd-bucket"), "s5cmd rm left something")
    s5cmd("rb", remote)
    stand.ok("s5cmd: mb, cp of a tree and of 60 MiB, ls, sync that sends nothing, the same back, rm, rb")
