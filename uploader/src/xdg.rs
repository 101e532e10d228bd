//! Where a user's settings and what programs keep between runs have their places, by the XDG Base Directory Specification.

use std::path::PathBuf;

/// Where settings are kept.
pub(crate) fn config_home() -> Option<PathBuf> {
    place("XDG_CONFIG_HOME", ".config")
}

/// Where programs keep what the next run should know.
pub(crate) fn state_home() -> Option<PathBuf> {
    place("XDG_STATE_HOME", ".local/state")
}

/// `$HOME`, or where that is not set, as in some services, what the system's list of users says.
pub(crate) fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|path| path.is_absolute())
}

/// What the variable says, if it is a path from the root: others do not count, says the specification. Else below the home.
fn place(variable: &str, below_home: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named
        .filter(|path| path.is_absolute())
        .or_else(|| Some(home()?.join(below_home)))
}
