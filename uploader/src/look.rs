//! `ls`, `uploads` and `get`: what is there, and back with it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indicatif::HumanBytes;
use shared::ObjectKey;
use shared::api::ListObjects;
use uploader::{GetOptions, UploadError};

use crate::cli::{Common, Get, Ls};
use crate::commands::exit_code;
use crate::render::Render;
use crate::screen::{Screen, visible};

/// Lists objects, page by page as they come.
pub(crate) async fn list(common: &Common, ls: &Ls, screen: &Screen) -> Result<(), UploadError> {
    let uploader = common.asking()?;
    let mut query = ListObjects {
        destination: ls.destination.clone(),
        prefix: ls.prefix.clone(),
        delimiter: (!ls.recursive).then(|| "/".into()),
        cursor: None,
        limit: None,
    };
    let mut none = true;
    loop {
        let page = uploader.objects(&query).await?;
        none &= page.prefixes.is_empty() && page.objects.is_empty();
        for prefix in &page.prefixes {
            let json = std::collections::BTreeMap::from([("prefix", prefix)]);
            screen
                .entry(&json, &format!("{:>11}  {:19}  {prefix}", "folder", ""))
                .map_err(unwritable)?;
        }
        for object in &page.objects {
            let (size, at, key) = (HumanBytes(object.size).to_string(), object.last_modified, &object.key);
            let day = format!("{} {:02}:{:02}:{:02}Z", at.date(), at.hour(), at.minute(), at.second());
            screen
                .entry(object, &format!("{size:>11}  {day}  {key}"))
                .map_err(unwritable)?;
        }
        let before = std::mem::replace(&mut query.cursor, page.next_cursor);
        if !goes_on(before.as_deref(), query.cursor.as_deref())? {
            break;
        }
    }
    if none {
        screen.note(&match &ls.prefix {
            Some(prefix) => format!("there are no objects whose keys begin with {prefix}"),
            None => "there are no objects yet".to_owned(),
        });
    }
    Ok(())
}

/// Lists the caller's open uploads.
pub(crate) async fn uploads(common: &Common, screen: &Screen) -> Result<(), UploadError> {
    let uploader = common.asking()?;
    let mut cursor = None;
    let mut none = true;
    loop {
        let page = uploader.open_uploads(cursor.clone()).await?;
        none &= page.uploads.is_empty();
        for upload in &page.uploads {
            let size = upload
                .size
                .map_or("unknown".to_owned(), |size| HumanBytes(size).to_string());
            let (id, at, name) = (&upload.upload_id, upload.expires_at, &upload.name);
            let until = format!("until {} {:02}:{:02}Z", at.date(), at.hour(), at.minute());
            screen
                .entry(upload, &format!("{id}  {size:>11}  {until}  {name}"))
                .map_err(unwritable)?;
        }
        let before = std::mem::replace(&mut cursor, page.next_cursor);
        if !goes_on(before.as_deref(), cursor.as_deref())? {
            break;
        }
    }
    if none {
        screen.note("no upload is open");
    }
    Ok(())
}

/// Whether there is another page; an error if it is the same again.
fn goes_on(before: Option<&str>, next: Option<&str>) -> Result<bool, UploadError> {
    if next.is_some() && before == next {
        return Err(UploadError::Contradiction("its listing turns in a circle".into()));
    }
    Ok(next.is_some())
}

fn unwritable(cause: io::Error) -> UploadError {
    UploadError::Target {
        path: "standard output".into(),
        cause,
    }
}

/// Downloads one object.
pub(crate) async fn fetch(common: &Common, get: &Get, screen: &Screen) -> Result<(), UploadError> {
    let uploader = common.uploader(get.concurrency, Duration::from_secs(get.stall_timeout))?;
    let path = target(&get.key, get.target.clone())?;
    let render = Arc::new(Render::new(screen.clone(), &path));
    let options = GetOptions {
        overwrite: get.overwrite,
        destination: get.destination.clone(),
    };
    let result = uploader.get(&get.key, &path, &options, render.clone()).await;
    if let Err(error) = &result {
        render.failed_event(error, exit_code(error));
    }
    result.map(drop)
}

/// Where the object goes.
fn target(key: &ObjectKey, named: Option<PathBuf>) -> Result<PathBuf, UploadError> {
    let own_name = || match key.as_str().rsplit('/').next() {
        Some(name) if visible(name) == name && !matches!(name, "" | "." | "..") => Ok(PathBuf::from(name)),
        Some("") => Err(UploadError::Settings(format!(
            "{key} is a folder, and get takes one object: `uploader ls {key}` lists what is in it. If there is an object of just \
             this key, name the file to write too: uploader get {key} FILE"
        ))),
        _ => Err(UploadError::Settings(format!(
            "the key {key} ends with no name that a file could have: name the file to write too, as in uploader get KEY FILE"
        ))),
    };
    match named {
        None => own_name(),
        Some(directory) if directory.is_dir() => Ok(directory.join(own_name()?)),
        Some(file) => Ok(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_goes_where_it_is_told_and_never_by_its_key_alone_to_another_directory() {
        let directory = tempfile::tempdir().unwrap();
        let to = |key: &str, named: Option<PathBuf>| target(&key.parse().unwrap(), named).ok();
        assert_eq!(to("a/b/c.bin", None), Some("c.bin".into()));
        assert_eq!(to("a/b/c.bin", Some("x/y".into())), Some("x/y".into()));
        let inside = directory.path().join("c.bin");
        assert_eq!(to("a/b/c.bin", Some(directory.path().into())), Some(inside));
        for bad in ["folder/", "a/..", "a/\u{1b}[2J"] {
            assert_eq!(to(bad, None), None, "{bad:?}");
        }
    }
}
