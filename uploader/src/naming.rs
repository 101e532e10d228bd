//! What the content of a link is called: as its host says, or as its URL ends.

use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{CONTENT_DISPOSITION, HeaderMap};

/// The name that the host gives in `Content-Disposition` (RFC 6266 section 4.3), else the last segment of the URL that is not
/// empty; nothing where neither is a name.
pub(crate) fn name(headers: &HeaderMap, url: &Url) -> Option<String> {
    let disposition = headers.get(CONTENT_DISPOSITION);
    // Many write UTF-8 as it is, which the RFC does not foresee and which cannot mean anything else.
    let told = disposition.and_then(|header| of_disposition(std::str::from_utf8(header.as_bytes()).ok()?));
    told.or_else(|| of_url(url))
}

/// `filename*` before `filename`, whichever comes first.
fn of_disposition(header: &str) -> Option<String> {
    let parameters = parameters(header);
    let of = |wanted: &str| {
        let found = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_str())
    };
    let extended = of("filename*").and_then(extended).and_then(|name| plain(&name));
    extended.or_else(|| plain(of("filename")?))
}

/// Names and values behind the disposition's type.
fn parameters(header: &str) -> Vec<(&str, String)> {
    let mut parameters = Vec::new();
    let mut rest = header;
    while let Some((before, after)) = rest.split_once('=') {
        // Also past the type, the value before, and parameters without a value.
        let name = before.rsplit(';').next().unwrap_or_default().trim();
        let (value, behind) = value(after.trim_start());
        parameters.push((name, value));
        rest = behind;
    }
    parameters
}

/// A token or a quoted string (RFC 9110 section 5.6), and what stands behind it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (token, behind) = text.split_at(text.find(';').unwrap_or(text.len()));
        return (token.trim().to_owned(), behind);
    };
    let (mut value, mut chars) = (String::new(), quoted.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    (value, chars.as_str())
}

/// `UTF-8'language'percent-encoded` (RFC 8187 section 3.2); of character sets, the one that it obliges everybody to know.
fn extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, encoded) = rest.split_once('\'')?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    let decoded = percent_decode_str(encoded).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

/// As its URL ends.
pub(crate) fn of_url(url: &Url) -> Option<String> {
    let last = url.path_segments()?.rfind(|segment| !segment.is_empty())?;
    plain(&percent_decode_str(last).decode_utf8().ok()?)
}

/// The last component of what may be a path of any system (RFC 6266 section 4.3 has recipients leave out the rest), if it can
/// be a name.
fn plain(path: &str) -> Option<String> {
    let name = path.rsplit(['/', '\\']).next()?.trim();
    let usable = !matches!(name, "" | "." | "..") && !name.contains(char::is_control);
    usable.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_name_is_read_in_each_of_its_forms() {
        for (header, expected) in [
            ("attachment; filename=db.dump", "db.dump"),
            (
                "attachment; filename = \"a; b=\\\"c\\\".txt\" ; size=3",
                "a; b=\"c\".txt",
            ),
            ("ATTACHMENT;x;FileName=\"grüße.txt\"", "grüße.txt"),
            (
                "attachment; filename=\"EURO.txt\"; filename*=utf-8'en'%e2%82%ac%20rates.txt",
                "€ rates.txt",
            ),
            ("attachment; filename*=UTF-8''a%2Fb.txt; filename=c", "b.txt"),
            ("inline; filename=\"../../etc/passwd\"", "passwd"),
            ("inline; filename=\"C:\\\\temp\\\\a.txt\"", "a.txt"),
            // An extended value that cannot be read leaves the plain one.
            ("attachment; filename*=KOI8-R''%C1; filename=a", "a"),
            ("attachment; filename*=UTF-8''%FF; filename=a", "a"),
            ("attachment; filename*=UTF-8''a%0Ab; filename=a", "a"),
        ] {
            assert_eq!(of_disposition(header).as_deref(), Some(expected), "{header}");
        }
        for none in [
            "",
            "inline",
            "attachment; filename=",
            "attachment; filename=\"..\"",
            "attachment; filename=\"a/\"",
            "attachment; filename*=a",
            "=;=\"\\",
        ] {
            assert_eq!(of_disposition(none), None, "{none}");
        }
    }

    #[test]
    fn a_url_gives_its_last_segment() {
        let of = |url: &str| of_url(&url.parse().unwrap());
        for (url, expected) in [
            ("https://host/path/db.dump?a=b/c#d/e", "db.dump"),
            ("https://host/photos//", "photos"),
            ("https://host/gr%C3%BC%C3%9Fe%20%2B.txt", "grüße +.txt"),
            ("https://host/a%2Fb", "b"),
        ] {
            assert_eq!(of(url).as_deref(), Some(expected), "{url}");
        }
        for none in [
            "https://host",
            "https://host/?a",
            "https://host/%00a",
            "https://host/%FF",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
