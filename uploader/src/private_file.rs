//! Files that others may not read, since there is a token in them.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use uploader::UploadError;

/// No token is longer: HTTP servers refuse longer headers.
const LONGEST_TOKEN: u64 = 64 << 10;
/// Where systemd puts credentials, in directories that only their service may enter (systemd.exec, "Credentials").
const CREDENTIALS: &str = "/run/credentials/";

/// Whether it is one that is there only while its service runs.
pub(crate) fn is_credential(path: &Path) -> bool {
    path.starts_with(CREDENTIALS)
}

/// The token in this file, without the end of its line.
pub(crate) fn token(path: &Path) -> Result<String, UploadError> {
    let unusable = |why: &str| UploadError::Settings(format!("the token's file {} {why}", path.display()));
    let (text, remedy) = read(path, LONGEST_TOKEN).map_err(|why| unusable(&why))?;
    if let (Some(remedy), false) = (remedy, is_credential(path)) {
        return Err(unusable(&format!("is no secret: {remedy}")));
    }
    match text.trim() {
        "" => Err(unusable("is empty: write the token into it")),
        token => Ok(token.to_owned()),
    }
}

/// A text file of at most `largest` bytes; beside it, where others may read it, what to do about that. Or why it cannot be
/// read.
pub(crate) fn read(path: &Path, largest: u64) -> Result<(String, Option<String>), String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    // What is looked at is what is read, whatever stands at that path meanwhile.
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    let mut text = String::new();
    file.take(largest + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > largest {
        return Err(format!("is larger than {} KiB", largest >> 10));
    }
    let remedy = is_open(metadata.mode(), metadata.uid()).then(|| {
        let mode = metadata.mode() & 0o777;
        format!("others can get at it (mode {mode:03o}): chmod 600 {}", path.display())
    });
    Ok((text, remedy))
}

/// Whether others than its owner may read or change it. A group that root lets read, and only that, is one that it was made
/// for: so Kubernetes and others hand out secrets.
fn is_open(mode: u32, owner: u32) -> bool {
    let others = if owner == 0 { 0o037 } else { 0o077 };
    mode & others != 0
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_open_when_others_than_its_owner_may_read_or_change_it() {
        let (root, alice) = (0, 1000);
        for (mode, owner, open) in [
            (0o100_600, alice, false),
            (0o100_400, alice, false),
            (0o100_640, alice, true),
            (0o100_604, alice, true),
            (0o100_620, alice, true),
            (0o100_440, root, false),
            (0o100_640, root, false),
            (0o100_660, root, true),
            (0o100_644, root, true),
        ] {
            assert_eq!(is_open(mode, owner), open, "{mode:o} of {owner}");
        }
    }

    #[test]
    fn a_token_is_read_without_the_end_of_its_line_and_only_where_others_cannot() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "very-secret\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let error = token(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        assert!(!error.contains("very-secret"), "{error}");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(token(&path).unwrap(), "very-secret");
        std::fs::write(&path, " \n").unwrap();
        assert!(token(&path).unwrap_err().to_string().contains("is empty"));
        let missing = token(&directory.path().join("no")).unwrap_err().to_string();
        assert!(missing.contains("cannot be read"), "{missing}");
    }
}
