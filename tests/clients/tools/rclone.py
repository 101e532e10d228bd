"""rclone by both signatures: copies of trees, comparison, sums, moves in the store, purge."""

from .boto import client
from .stand import digests, expect, expect_equal_trees, expect_file

NEEDS = ["rclone"]


def run(stand):
    for name, v2 in (("V4", "false"), ("V2", "true")):
        all_of_it(stand, name, f"rclone-{name.lower()}", v2)


def all_of_it(stand, name, bucket, v2):
    s3, remote = client(stand), f"store:{bucket}"
    settings = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ACCESS_KEY_ID": stand.key,
        "SECRET_ACCESS_KEY": stand.secret,
        "ENDPOINT": stand.endpoint,
        "REGION": stand.region,
        "V2_AUTH": v2,
    }
    environment = {f"RCLONE_CONFIG_STORE_{key}": value for key, value in settings.items()}

    def rclone(*words, **more):
        done = stand.run("rclone", "--retries", "1", "--low-level-retries", "1", "-v", *words, environment=environment, **more)
        return done.expect_not("ERROR")

    rclone("mkdir", remote)
    rclone("lsd", "store:").expect(bucket)
    tree = stand.make_tree(f"rclone/{name}")
    rclone("copy", tree, f"{remote}/tree").expect("Copied (new)")
    rclone("copy", tree, f"{remote}/tree").expect("There was nothing to transfer")
    rclone("check", "--download", tree, f"{remote}/tree").expect("0 differences found")
    rclone("check", tree, f"{remote}/tree").expect("0 differences found")
    rclone("lsd", f"{remote}/tree").expect("deep")
    rclone("copy", f"{remote}/tree", stand.home / f"rclone-back-{name}")
    expect_equal_trees(tree, stand.home / f"rclone-back-{name}")
    lines = rclone("md5sum", f"{remote}/tree").bytes.decode().splitlines()
    told = {path: md5 for md5, path in (line.split("  ", 1) for line in lines)}
    expect(told == digests(tree), f"rclone md5sum tells {told}, not {digests(tree)}")
    stand.ok(f"rclone {name}: mkdir, copy twice, the second sends nothing, check, lsd, md5sum, the same back")

    path = tree / "deep/12MiB.bin"
    rclone("copyto", f"{remote}/tree/deep/12MiB.bin", f"{remote}/copied").expect("Copied (server-side copy)")
    rclone("moveto", f"{remote}/copied", f"{remote}/moved to").expect("Copied (server-side copy)", "Deleted")
    expect_file(s3.get_object(Bucket=bucket, Key="moved to")["Body"].read(), path, "rclone copyto and moveto")
    expect_file(rclone("cat", f"{remote}/moved to").bytes, path, "rclone cat")
    expect(rclone("cat", "--offset", "10", "--count", "5", f"{remote}/moved to").bytes == path.read_bytes()[10:15], "rclone cat")
    rclone("rcat", f"{remote}/piped", given=b"by standard input")
    expect(s3.get_object(Bucket=bucket, Key="piped")["Body"].read() == b"by standard input", "rclone rcat")
    found = [key["Key"] for key in s3.list_objects_v2(Bucket=bucket, Delimiter="/")["Contents"]]
    expect(found == ["moved to", "piped"], f"after rclone moveto there are {found}")
    rclone("backend", "list-multipart-uploads", remote).expect(bucket)
    rclone("purge", f"{remote}/tree")
    rclone("purge", remote)
    expect(bucket not in [found["Name"] for found in s3.list_buckets()["Buckets"]], "rclone purge left the bucket")
    stand.ok(f"rclone {name}: copyto and moveto in the store, cat of a range, rcat, open uploads, purge")
