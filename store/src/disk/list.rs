//! One page of a listing: keys in order, those that share a prefix up to the delimiter told once.

use std::ops::Bound;

/// What to list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Listing<'a> {
    /// How keys must begin.
    pub(crate) prefix: &'a str,
    /// Keys that hold it after the prefix are told by their beginning up to it. Any text, but not the empty one.
    pub(crate) delimiter: Option<&'a str>,
    /// Only what comes after this key, or after the keys of this common prefix.
    pub(crate) after: Option<&'a str>,
    /// Most entries, keys and common prefixes together.
    pub(crate) max: usize,
}

/// A page.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) prefixes: Vec<String>,
    /// The last entry of the page, where the next one goes on; none if this is the last page.
    pub(crate) next: Option<String>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            prefixes: Vec::new(),
            next: None,
        }
    }
}

/// The beginning of `key` up to the first delimiter after the prefix.
pub(crate) fn common_prefix<'a>(key: &'a str, prefix: &str, delimiter: Option<&str>) -> Option<&'a str> {
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let at = key.get(prefix.len()..)?.find(delimiter)?;
    key.get(..prefix.len() + at + delimiter.len())
}

impl Listing<'_> {
    /// The page, in time that grows with the page and not with what there is. `rows` gives keys in order from a bound on,
    /// each with something that `item` makes an entry of, if the key is told.
    pub(super) fn page<T, R, I, E>(
        &self,
        mut rows: impl FnMut(Bound<&str>) -> Result<I, E>,
        mut item: impl FnMut(R) -> Result<T, E>,
    ) -> Result<Page<T>, E>
    where
        I: Iterator<Item = Result<(String, R), E>>,
    {
        let mut page = Page::default();
        let mut last = String::new();
        let mut from = match self.after {
            Some(after) if after >= self.prefix => Bound::Excluded(after.to_owned()),
            Some(_) | None => Bound::Included(self.prefix.to_owned()),
        };
        'seek: loop {
            for row in rows(from.as_ref().map(String::as_str))? {
                let (key, row) = row?;
                if !key.starts_with(self.prefix) {
                    break 'seek;
                }
                let group = common_prefix(&key, self.prefix, self.delimiter);
                let told = group.is_some_and(|group| self.after == Some(group) || group == last);
                if !told {
                    if page.items.len() + page.prefixes.len() == self.max {
                        page.next = (self.max > 0).then_some(last);
                        break 'seek;
                    }
                    group.unwrap_or(&key).clone_into(&mut last);
                    match group {
                        Some(group) => page.prefixes.push(group.to_owned()),
                        None => page.items.push(item(row)?),
                    }
                }
                if let Some(group) = group {
                    let past = Bound::Excluded(format!("{group}{}", char::MAX));
                    // A key of the group that sorts even after that is passed one by one.
                    if past != from {
                        from = past;
                        continue 'seek;
                    }
                }
            }
            break;
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn page(listing: &Listing<'_>, keys: &BTreeMap<String, String>) -> Page<String> {
        let rows = |from: Bound<&str>| {
            let range = keys.range::<str, _>((from, Bound::Unbounded));
            Ok::<_, Infallible>(range.map(|(key, item)| Ok((key.clone(), item))))
        };
        listing.page(rows, |item| Ok(item.clone())).unwrap()
    }

    /// All pages, as a client walks them, each of at most `max` entries.
    fn walk(keys: &BTreeMap<String, String>, prefix: &str, delimiter: Option<&str>, max: usize) -> Vec<String> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let listing = Listing {
                prefix,
                delimiter,
                after: after.as_deref(),
                max,
            };
            let page = page(&listing, keys);
            assert!(page.items.len() + page.prefixes.len() <= max);
            all.extend(page.items);
            all.extend(page.prefixes);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        all.sort();
        all
    }

    fn keys(names: &[&str]) -> BTreeMap<String, String> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), (*name).to_owned()))
            .collect()
    }

    #[test]
    fn keys_with_a_common_beginning_are_told_once() {
        let keys = keys(&["a", "a/", "a/b", "a/b/c", "a//d", "b/x", "é/ü"]);
        assert_eq!(walk(&keys, "", Some("/"), 1000), ["a", "a/", "b/", "é/"]);
        assert_eq!(walk(&keys, "a/", Some("/"), 1), ["a/", "a//", "a/b", "a/b/"]);
        assert_eq!(walk(&keys, "", Some("é/"), 2).last().unwrap(), "é/");
        assert_eq!(walk(&keys, "nothing", None, 2), [""; 0]);
    }

    #[test]
    fn no_entries_asked_for_are_none_and_no_next_page() {
        let page = page(&Listing::default(), &keys(&["a", "b"]));
        assert!(page.items.is_empty() && page.next.is_none());
    }

    proptest! {
        #[test]
        fn pages_of_any_size_tell_every_entry_once(
            names in prop::collection::btree_set("[ab/\u{10FFFF}]{1,6}", 0..40),
            prefix in "[ab/]{0,2}",
            delimiter in prop::option::of("[/b]{1,2}"),
            max in 1_usize..5,
        ) {
            let delimiter = delimiter.as_deref();
            let map = names.iter().map(|name| (name.clone(), name.clone())).collect();
            let mut expected: Vec<_> = names
                .iter()
                .filter(|name| name.starts_with(&prefix))
                .map(|name| common_prefix(name, &prefix, delimiter).unwrap_or(name).to_owned())
                .collect();
            expected.sort();
            // A key that is its own common prefix and the group of others are one entry.
            expected.dedup();
            prop_assert_eq!(walk(&map, &prefix, delimiter, max), expected);
        }
    }
}
