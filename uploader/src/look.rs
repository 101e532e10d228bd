//! `ls`, `uploads` and `get`: what is there, and back with it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::ObjectKey;
use shared::api::ListObjects;
use uploader::UploadError;

use crate::cli::{Common, Get, Ls};
use crate::commands::exit_code;
use crate::render::Render;
use crate::screen::{Screen, visible};

/// Lists objects, page by page as they come.
pub(crate) async fn list(common: &Common, ls: &Ls, screen: &Screen) -> Result<(), UploadError> {
    let uploader = common.asking()?;
    let mut query = ListObjects {
        prefix: ls.prefix.clone(),
        delimiter: (!ls.recursive).then(|| "/".into()),
        cursor: None,
        limit: None,
    };
    loop {
        let page = uploader.objects(&query).await?;
        for prefix in &page.prefixes {
            let json = std::collections::BTreeMap::from([("prefix", prefix)]);
            screen
                .entry(&json, &format!("{:>15}  {:19}  {prefix}", "folder", ""))
                .map_err(unwritable)?;
        }
        for object in &page.objects {
            let (size, at, key) = (object.size, object.last_modified, &object.key);
            let day = format!("{} {:02}:{:02}:{:02}", at.date(), at.hour(), at.minute(), at.second());
            screen
                .entry(object, &format!("{size:>15}  {day}  {key}"))
                .map_err(unwritable)?;
        }
        let before = std::mem::replace(&mut query.cursor, page.next_cursor);
        if !goes_on(before.as_deref(), query.cursor.as_deref())? {
            return Ok(());
        }
    }
}

/// Lists the caller's open uploads.
pub(crate) async fn uploads(common: &Common, screen: &Screen) -> Result<(), UploadError> {
    let uploader = common.asking()?;
    let mut cursor = None;
    loop {
        let page = uploader.open_uploads(cursor.clone()).await?;
        for upload in &page.uploads {
            let size = upload.size.map_or("unknown".to_owned(), |size| size.to_string());
            let (id, at, name) = (&upload.upload_id, upload.expires_at, &upload.name);
            let until = format!("until {} {:02}:{:02}", at.date(), at.hour(), at.minute());
            screen
                .entry(upload, &format!("{id}  {size:>15}  {until}  {name}"))
                .map_err(unwritable)?;
        }
        let before = std::mem::replace(&mut cursor, page.next_cursor);
        if !goes_on(before.as_deref(), cursor.as_deref())? {
            return Ok(());
        }
    }
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
    let result = uploader.get(&get.key, &path, get.overwrite, render.clone()).await;
    if let Err(error) = &result {
        render.failed_event(error, exit_code(error));
    }
    result.map(drop)
}

/// Where the object goes.
fn target(key: &ObjectKey, named: Option<PathBuf>) -> Result<PathBuf, UploadError> {
    let own_name = || match key.as_str().rsplit('/').next() {
        Some(name) if visible(name) == name && !matches!(name, "" | "." | "..") => Ok(PathBuf::from(name)),
        _ => Err(UploadError::Settings(format!(
            "the key {key} ends with no name for a file; say where it goes"
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
