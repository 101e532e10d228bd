//! Certificate authorities that are trusted on top of the system's.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use reqwest::{Certificate, Client};

use crate::error::UploadError;

/// Largest file that is read: what systems trust fits into a tenth of it.
const LARGEST_FILE: u64 = 4 << 20;

/// The certificates in a PEM file, each of them one that can be used.
pub(crate) fn certificates(path: &Path) -> Result<Vec<Certificate>, UploadError> {
    let unusable = |why: &str| {
        let what = "it is to hold certificates in PEM, which begin with -----BEGIN CERTIFICATE-----";
        UploadError::Settings(format!("the file of certificates {} {why}; {what}", path.display()))
    };
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut pem))
        .map_err(|cause| unusable(&format!("cannot be read: {cause}")))?;
    if pem.len() as u64 > LARGEST_FILE {
        return Err(unusable("is larger than 4 MiB"));
    }
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| unusable("is no whole PEM"))?;
    if certificates.is_empty() {
        return Err(unusable("has none in it"));
    }
    // PEM is only the wrapping; what is inside is looked at when a client is made.
    Client::builder()
        .tls_certs_only(certificates.clone())
        .build()
        .map_err(|_| unusable("has one that is damaged"))?;
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signed by itself, for this test alone; nobody holds its key.
    const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBiTCCAS+gAwIBAgIUB1oMQwEGGT8qmuG8CBm9DyAbNGYwCgYIKoZIzj0EAwIw\n\
GTEXMBUGA1UEAwwOdGVzdC1hdXRob3JpdHkwIBcNMjYxMTI0MDQwNTM0WhgPMjEy\n\
NjEwMzEwNDA1MzRaMBkxFzAVBgNVBAMMDnRlc3QtYXV0aG9yaXR5MFkwEwYHKoZI\n\
zj0CAQYIKoZIzj0DAQcDQgAEJW5Bsw7ThjU7dNrKfgZ4y2O8ybF3nutCmd2tFmc1\n\
FQ0c/6/oCXvToQeb446X09eQIokrQq4qvp1mTZZ0vgrY2KNTMFEwHQYDVR0OBBYE\n\
FJvBtl3zCFd/5IENt4Xdsyx147vrMB8GA1UdIwQYMBaAFJvBtl3zCFd/5IENt4Xd\n\
syx147vrMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAKCCse6n\n\
bbl+cQeTtAGZdALXRB5KCjY7ETk4sPnekmd5AiBv/1PdZRkWPm9suJ8ZVEtKhjKB\n\
/mC1Zm/hpYK5kKULgQ==\n\
-----END CERTIFICATE-----";

    fn read(bytes: &[u8]) -> Result<usize, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authorities.pem");
        std::fs::write(&path, bytes).unwrap();
        match certificates(&path) {
            Ok(certificates) => Ok(certificates.len()),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("authorities.pem"), "{text}");
                Err(text)
            }
        }
    }

    #[test]
    fn every_certificate_of_the_file_is_taken() {
        assert_eq!(read(CERTIFICATE.as_bytes()), Ok(1));
        assert_eq!(
            read(format!("A comment\n{CERTIFICATE}\n{CERTIFICATE}").as_bytes()),
            Ok(2)
        );
    }

    #[test]
    fn a_file_that_is_of_no_use_is_named_with_the_reason() {
        let damaged = CERTIFICATE.replace("MII", "AAA");
        let cut = CERTIFICATE.replace("-----END CERTIFICATE-----", "");
        let long = vec![b'\n'; usize::try_from(LARGEST_FILE).unwrap() + 1];
        for (bytes, why) in [
            (&b""[..], "none in it"),
            (b"garbage \xff\x00", "none in it"),
            (damaged.as_bytes(), "damaged"),
            (cut.as_bytes(), "no whole PEM"),
            (&long, "4 MiB"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        for path in ["/no/such/file.pem", "/"] {
            let error = certificates(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains("cannot be read"), "{error}");
        }
    }
}
