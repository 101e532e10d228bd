//! What `--help` tells beside the flags: settings, exit status, events, examples. Paragraphs are one line each, which is wrapped
//! where it is shown; lists are wrapped here, since their indentation would be lost.

/// Behind `--help` of the program.
pub(crate) const AFTER_HELP: &str = "\
Settings:
  A flag wins over its environment variable, that over the profile, that over the rest of the settings file, that over \
the default. The file's keys are the names of the flags above (but for --config, --profile, --json, --quiet) and of those \
of `put` (but for --dry-run, --verbose); --profile NAME takes what [profiles.NAME] says:
    broker = \"https://uploads.example.org\"
    [profiles.nightly]
    token-file = \"nightly.token\"        # a path from the file's directory
    sources = [\"/srv/data\", \"~/photos\"] # what `put` uploads; ~/ is your home
    exclude = [\"*.tmp\"]                 # a list for each flag that may be
    meta = { host = \"h7\" }              # given several times
    limit-rate = \"08:00,1MiB 23:00,off\"
    gitignore = true
  A flag that is given replaces the whole list, and --gitignore=false takes such a switch back. An empty variable counts \
as none. A file with a token in it must be one that others cannot read.

Proxies:
  HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or the same in lower case, name the proxy for requests to broker, store and \
links; NO_PROXY names hosts, domains and networks that are reached without it.

Exit status:
  0    everything was done
  1    some of it failed
  2    the command line cannot be used
  3    the broker does not know the token, or does not allow what was asked
       (HTTP 401, 403)
  4    a file, or what a link leads to, changed while it was being sent, or an
       object while it was being downloaded; nothing was made of it
  75   broker, store or a link's host could not be reached, had too much to do,
       or no room; or the upload was ended by somebody else, or another one of
       the same name got into an object: run the same command again later
  130  interrupted; the same command continues
With several files that fail in different ways it is 1. One that fails does not stop the others.

Examples:
  uploader put backup.tar
  uploader put --name photos/2026/1.jpg --meta camera=x100 IMG_1.JPG
  pg_dump shop | uploader put --name shop.dump -
  uploader put https://example.org/db.dump notes.txt
  uploader put photos           # keys photos/2026/1.jpg and so on
  uploader put photos/          # keys 2026/1.jpg and so on
  uploader put --dry-run --limit-rate 10MiB /srv/data
  uploader put --exclude '*.tmp' --exclude cache/ --name host-7 /srv/data
  uploader ls photos/2026/ && uploader get photos/2026/1.jpg
  UPLOADER_TOKEN=… uploader --broker https://uploads.example.org put *.tar
  uploader --profile nightly put && uploader --profile nightly schedule --write
  eval \"$(uploader completions bash)\"
  uploader --json put backup.tar | jq -r 'select(.event == \"completed\").key'";

/// Behind `put --help`.
pub(crate) const PUT_HELP: &str = "\
On a terminal there are bars, and in the end a sum; a file that fails is told at once. Files that are named one by one, up \
to 20 of them, have a line each, those of directories only with --verbose. Where the output goes into a file or another \
program, every file that was sent has its line on standard output; --quiet leaves them out. What is left out (links, pipes, \
pseudo file systems) stands in the sum by its kind, and with --verbose each by itself. What keeps failing for one reason is \
told once, and again every ten seconds; --verbose tells each retry.

Events printed with --json, one object a line, each with `event` and `file`, the path as it was given, or the link without \
what could be secret in it:
  started     upload_id, key, size, part_size, part_count, stored_parts,
              resumed; size and part_count are null where the length is
              not known before the end. resumed: new, continued, or
              anew: there was an earlier upload that cannot be
              continued, with why: aborted, expired, completed (and
              replaced since), not_found, file_changed, settings_changed
  gave_up     upload_id, ends_at: that earlier upload was still open,
              and was aborted; if it could not be, ends_at says when it
              expires
  part        number, size, kept: true where the store held it from an
              earlier run
  retry       what, after_seconds, attempt; of all files together,
              retries that fail are at most a tenth of what succeeds,
              beside the first fifty: others wait, so it may take as
              long as that, or less if one succeeds
  completing
  completed   upload_id, key, etag, size, version_id (on versioned
              buckets), location, sent_bytes, kept_bytes, seconds
  failed      code, exit_status, error
  rate        without `file`, after a signal or by the table:
              bytes_per_second, null for no limit
  unchanged   with --if-changed, a file that is there already: key (null
              where it is not made of the name alone), size, etag (null
              where it is no MD5)
  warning     what: something does not work that can be done without;
              also without `file`
  skipped     what: neither a file nor a directory, or a file system
              that is not gone into; left out
  empty       a directory without a file to send
  summary     without `file`, the last one where a directory or several
              sources are sent: files, bytes, sent_bytes, kept_bytes,
              unchanged, failed, skipped, untried, seconds
With --dry-run there are, beside unchanged, failed, skipped and empty:
  planned     name, key_template, size, part_size, growing_parts,
              part_count, broker_requests, store_requests
  summary     dry_run: true, files, bytes, parts, broker_requests,
              store_requests, beyond_limit, unchanged, failed, skipped,
              seconds: the least at --limit-rate, limit: by (max_size,
              part_count, upload_life, url_life) and bytes
More kinds and fields may come. Sizes are bytes. Events of several files come as they happen.

Standard input is cut into parts of 16 MiB at first, which grow as it goes on: the memory for them is 64 MiB for as long as \
it has less than 156 GiB, 256 MiB up to 250 GiB, 1 GiB up to 625 GiB, and at most 4 GiB, up to 5 TiB. With --part-size, and \
on stores that want equal parts, all have one size, 10,000 of them are the most, and four are in memory. What was read is \
gone: an upload of it that fails is given up and not continued.

So is what a link leads to, without a file in between; where its length is known, parts may be larger to fit the 10,000. If \
the connection breaks off, the rest is asked for, where the link's host gives parts (Accept-Ranges: bytes) and says by ETag \
or Last-Modified that the content is still the same. At most 10 redirects are followed, none from https to http. User and \
password, as in https://USER:PASSWORD@HOST/PATH, go to that host only; they and the query (?...) are never shown.

With --if-changed the objects are listed first, a request for each 1000 of them, and a file is left out if its object is as \
long and has the ETag of the file's content. Files that have not been touched since a run with --if-changed are not read \
for that, but compared with its records. Only the content counts: another media type or other metadata alone send nothing. \
Where the broker does not let you list, the records decide alone; where they were removed as well, all is sent.

A run leaves in the journal directory what the next one should know: of each upload of more than one part its id and the \
MD5s of its parts, so that the next run can say what became of it and need not hash again; with --if-changed which files \
became which objects. There are neither tokens nor URLs in it, and names only as hashes and keys; others cannot read it. It \
can be removed at any time. Without it uploads are continued as well: what counts is what the store has.

A dry run asks the broker who you are and opens the files, and reads none of them; with --if-changed it lists the objects \
and reads what has to be compared, as a real run would. Nothing is recorded. It counts as if nothing had been sent by an \
earlier run and nothing had to be sent twice, and ends with the exit status of a real run as far as that is known.

A rate set by --limit-rate is halved by `kill -USR1` and doubled by `kill -USR2`, as often as they come, and until the \
table's next entry if it is one; without one these signals end the process, as they do any other. A table's times are this \
machine's (TZ), each rate holds from its time to the next one's, and the last one's until the first one's on the next day. \
Requests to the broker, a few hundred bytes each, are not counted.

Sizes and rates are bytes without a unit; K, M, G or KiB, MiB, GiB are units of 1024, KB, MB, GB of 1000.

The files of --log-dir have a line for each file started, retried, completed, failed and skipped, and one for the sum, each \
with its time in UTC. They can be read by you alone, are appended to, also by several runs at once, and never removed.

Of directories, .DS_Store, .Trashes, .fseventsd, .Spotlight-V100 and desktop.ini are left out unless they are included.

Exit status: see `uploader --help`.";

/// Behind `get --help`.
pub(crate) const GET_HELP: &str = "\
The file is written beside its place under another name, and gets its name when all of it is there and has been compared \
with the object's ETag. Where the ETag is no MD5, or made of parts whose size nobody knows, the answer says so.

Events printed with --json, one object a line, each with `event` and `file`, the path that is written:
  fetching    key, size
  retry       what, after_seconds, attempt
  verifying
  fetched     key, path, size, etag, verified, seconds
  failed      code, exit_status, error

Exit status: see `uploader --help`.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_fit_a_terminal_of_80_columns_and_paragraphs_are_not_wrapped_here() {
        // The manual indents its text by 7.
        for (text, columns) in [(AFTER_HELP, 80), (PUT_HELP, 73), (GET_HELP, 73)] {
            for line in text.lines() {
                let is_sentence = line.trim().ends_with(['.', ':']);
                assert!(is_sentence || line.chars().count() < columns, "{line}");
            }
        }
    }
}
