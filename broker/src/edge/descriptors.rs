//! Files that the process may have open: each connection takes two (its own, and one to end it by), and one that cannot be
//! opened fails whatever needed it, the ledger and the store included.

/// For all else: the ledger, calls to the store, the embedded store and its files.
const OTHERS: u64 = 512;
/// For each connection.
const EACH: u64 = 2;

/// How many of these connections the system allows, after asking it for as many open files as they take. Told in the log where
/// they are fewer.
pub fn affordable(connections: u32) -> u32 {
    let wanted = u64::from(connections) * EACH + OTHERS;
    let limit = match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be found out");
            return connections;
        }
    };
    let affordable = within(limit, connections);
    if affordable < connections {
        tracing::warn!(
            limit,
            wanted,
            "the system's limit of open files (ulimit -n, LimitNOFILE=) allows {affordable} connections instead of {connections}"
        );
    }
    affordable
}

fn within(limit: u64, connections: u32) -> u32 {
    let most = limit.saturating_sub(OTHERS) / EACH;
    // Where hardly any files are allowed at all, it has to be tried.
    connections.min(u32::try_from(most).unwrap_or(u32::MAX).max(16))
}

/// What one address may have of these connections, if it may have `most`: an eighth, so that it takes a few to take them all. 0 is
/// any number.
pub fn share(most: u32, connections: u32) -> u32 {
    most.min((connections / 8).max(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_connections_are_taken_as_the_files_allow_that_may_be_open() {
        assert_eq!(within(1_048_576, 4096), 4096);
        assert_eq!(within(4096 * EACH + OTHERS, 4096), 4096);
        assert_eq!(within(1024, 4096), 256);
        assert_eq!(within(64, 4096), 16);
        assert_eq!(within(64, 8), 8);
        let shares = (share(256, 4096), share(256, 256), share(0, 256), share(256, 16));
        assert_eq!(shares, (256, 32, 0, 8));
    }
}
