//! The texts of a systemd service and its timer, and of a line for cron. Pure: what they are about are arguments.

use std::fmt::Write as _;
use std::time::Duration;

use time::Time;
use uploader::UploadError;

use crate::timetable::clock;

/// The first line of what `schedule --write` writes, and the only files it replaces have it.
pub(crate) const MARK: &str =
    "# Written by `uploader schedule`, whose --write replaces files that begin with this line.";

/// What holds for the service wherever it runs: nothing here keeps it from reading files, or from writing where it may.
const HARDENING: &str = "\
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
UMask=0077
";
/// What only the system's manager can do, and the home that it does not tell of. Root reads and writes files as ever, and
/// has no other power.
const SYSTEM_HARDENING: &str = "\
Environment=HOME=%h
CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=full
";
/// Longest time by which a run is put off so that not all machines come at once.
const MOST_SPREAD: Duration = Duration::from_mins(15);

/// When the profile is uploaded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum When {
    /// At this time of every day.
    At(Time),
    /// Every so many minutes of an hour; they divide it.
    Minutes(u8),
    /// Every so many hours of a day; they divide it.
    Hours(u8),
    /// As systemd.time has it ("Calendar Events").
    Calendar(String),
}

impl When {
    /// `02:30`
    pub(crate) fn at(text: &str) -> Result<Self, String> {
        clock(text)
            .map(Self::At)
            .ok_or_else(|| "write it as a time of 00:00 to 23:59".into())
    }

    /// `15m`, `6h`
    pub(crate) fn every(text: &str) -> Result<Self, String> {
        let how = "write it as minutes that divide an hour, such as 15m, or hours that divide a day, such as 6h";
        let (digits, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
        match (digits.parse(), unit) {
            (Ok(minutes @ 1..60), "m") if 60 % minutes == 0 => Ok(Self::Minutes(minutes)),
            (Ok(hours @ 1..24), "h") if 24 % hours == 0 => Ok(Self::Hours(hours)),
            _ => Err(how.into()),
        }
    }

    /// What stands behind `OnCalendar=`; systemd says whether it understands it.
    pub(crate) fn calendar(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || " *-:/,.~_+".contains(c);
        match text.trim() {
            "" => Err("it is empty; `man systemd.time` has examples".into()),
            text if text.chars().all(fits) => Ok(Self::Calendar(text.to_owned())),
            _ => Err("it has characters that no calendar event has; `man systemd.time` has examples".into()),
        }
    }

    fn on_calendar(&self) -> String {
        match self {
            Self::At(time) => format!("*-*-* {:02}:{:02}:00", time.hour(), time.minute()),
            Self::Minutes(minutes) => format!("*-*-* *:00/{minutes:02}:00"),
            Self::Hours(hours) => format!("*-*-* 00/{hours:02}:00:00"),
            Self::Calendar(text) => text.clone(),
        }
    }

    /// The five fields of crontab(5); a calendar event of systemd has none.
    fn cron(&self) -> Option<String> {
        match self {
            Self::At(time) => Some(format!("{} {} * * *", time.minute(), time.hour())),
            Self::Minutes(minutes) => Some(format!("*/{minutes} * * * *")),
            Self::Hours(hours) => Some(format!("0 */{hours} * * *")),
            Self::Calendar(_) => None,
        }
    }

    /// A tenth of the time between two runs, as far as that is known.
    fn spread(&self) -> Duration {
        let tenth = match self {
            Self::At(_) => MOST_SPREAD,
            Self::Minutes(minutes) => Duration::from_mins((*minutes).into()) / 10,
            Self::Hours(hours) => Duration::from_hours((*hours).into()) / 10,
            Self::Calendar(_) => Duration::from_mins(1),
        };
        tenth.min(MOST_SPREAD)
    }
}

/// A profile that is to be uploaded by itself.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// This program, from the root.
    pub(crate) program: String,
    /// The settings file, from the root.
    pub(crate) config: String,
    pub(crate) profile: String,
    pub(crate) when: When,
    /// Run by the system's manager rather than the user's.
    pub(crate) system: bool,
}

impl Job {
    /// The units' name, without its ending. What names of units cannot have is written as `systemd-escape` does.
    pub(crate) fn unit(&self) -> String {
        let mut name = "uploader-".to_owned();
        for byte in self.profile.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => name.push(byte.into()),
                other => _ = write!(name, "\\x{other:02x}"),
            }
        }
        name
    }

    /// The profile's name in one word with its flag, since it may begin with `-`.
    fn arguments(&self) -> [String; 4] {
        let profile = format!("--profile={}", self.profile);
        ["--config".to_owned(), self.config.clone(), profile, "put".to_owned()]
    }

    /// The unit that uploads. After exit status 75, which says that what failed may pass by itself, and after a crash, it is
    /// started again; after the others, which say that it will not, only by the timer.
    pub(crate) fn service(&self) -> String {
        let arguments = self
            .arguments()
            .map(|argument| quoted(&argument).replace('$', "$$"))
            .join(" ");
        let online = if self.system {
            "Wants=network-online.target\nAfter=network-online.target\n"
        } else {
            ""
        };
        let hardening = if self.system { SYSTEM_HARDENING } else { "" };
        format!(
            "{MARK}\n\
             [Unit]\n\
             Description=Upload of the profile {} by uploader\n\
             # A backup is not given up: it is tried until it succeeds.\n\
             StartLimitIntervalSec=0\n\
             {online}\n\
             [Service]\n\
             Type=oneshot\n\
             ExecStart={} {arguments}\n\
             # Status 75: broker or store could not be reached. What the others tell of does not pass by itself.\n\
             Restart=on-failure\n\
             RestartPreventExitStatus=1 2 3 4\n\
             RestartSec=10min\n\
             # Interrupted, as by systemctl stop.\n\
             SuccessExitStatus=130\n\
             Nice=10\n\
             IOSchedulingClass=idle\n\
             {HARDENING}{hardening}",
            described(&self.profile),
            // In the path of a program `$` stands for itself.
            quoted(&self.program),
        )
    }

    /// The unit that starts the other one, also for a time at which the machine was off.
    pub(crate) fn timer(&self) -> String {
        format!(
            "{MARK}\n\
             [Unit]\n\
             Description=Time for the upload of the profile {} by uploader\n\
             \n\
             [Timer]\n\
             OnCalendar={}\n\
             Persistent=true\n\
             # Each machine has its own delay, so that not all of them come at once.\n\
             RandomizedDelaySec={}\n\
             FixedRandomDelay=true\n\
             \n\
             [Install]\n\
             WantedBy=timers.target\n",
            described(&self.profile),
            self.when.on_calendar(),
            self.when.spread().as_secs(),
        )
    }

    /// A line of a crontab. What it prints comes by mail, so it only prints what went wrong.
    pub(crate) fn cron_line(&self) -> Result<String, UploadError> {
        let wrong = |why: &str| UploadError::Settings(why.to_owned());
        let when = self
            .when
            .cron()
            .ok_or_else(|| wrong("--on-calendar is for systemd; cron takes --at or --every"))?;
        let words = std::iter::once(self.program.clone()).chain(self.arguments());
        let command: Vec<_> = words.map(|word| in_cron(&word)).collect();
        let command = format!("nice -n 10 {} --quiet", command.join(" "));
        if command.contains(['\n', '\r']) {
            return Err(wrong(
                "a line for cron cannot hold the end of a line, which a path or the profile's name has",
            ));
        }
        // Cron's own: `%` ends the command, crontab(5).
        Ok(format!("{when} {}\n", command.replace('%', "\\%")))
    }
}

/// One word of `ExecStart=`, but for `$`: quotes and escapes by systemd.syntax, specifiers by systemd.unit.
fn quoted(word: &str) -> String {
    let mut text = String::from('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' => text.push_str("%%"),
            c if c.is_ascii_control() => _ = write!(text, "\\x{:02x}", u32::from(c)),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// A name in `Description=`: on one line, without specifiers.
fn described(name: &str) -> String {
    name.escape_debug().to_string().replace('%', "%%")
}

/// One word for `sh`; what needs no quotes gets none.
pub(crate) fn in_shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if word.chars().all(plain) && !word.is_empty() {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// One word of a crontab's command, but for `%`. Before a shell sees it, cron makes `%` of `\%` and, but not on every system,
/// `\` of `\\`. So the quotes are closed behind each backslash: it stands before neither.
fn in_cron(word: &str) -> String {
    match word {
        "" => in_shell(word),
        word => word.split_inclusive('\\').map(in_shell).collect(),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::time;

    use super::*;

    fn job(profile: &str, when: When) -> Job {
        Job {
            program: "/usr/bin/uploader".into(),
            config: "/home/alice/.config/uploader/config.toml".into(),
            profile: profile.into(),
            when,
            system: false,
        }
    }

    /// What a line of a unit has behind this `=`.
    fn value<'a>(unit: &'a str, key: &str) -> &'a str {
        let mut values = unit
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.next().unwrap_or_else(|| panic!("there is no {key} in {unit}"))
    }

    /// The words of `ExecStart=` as systemd.syntax ("Quoting") and systemd.unit ("Specifiers") have them read, the first
    /// without and the others with the substitution of variables, of which none may be left.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut rest = line.chars();
        while let Some(c) = rest.next() {
            assert_eq!(c, '"', "a word of {line} has no quotes");
            let mut word = String::new();
            loop {
                match rest.next().unwrap() {
                    '"' => break,
                    '\\' => match rest.next().unwrap() {
                        'x' => {
                            let code: String = rest.by_ref().take(2).collect();
                            word.push(u8::from_str_radix(&code, 16).unwrap().into());
                        }
                        c @ ('"' | '\\') => word.push(c),
                        other => panic!("\\{other} in {line}"),
                    },
                    '%' => word.extend(rest.next().filter(|c| *c == '%')),
                    '$' if !words.is_empty() => word.extend(rest.next().filter(|c| *c == '$')),
                    c => word.push(c),
                }
            }
            words.push(word);
            assert!(matches!(rest.next(), None | Some(' ')), "{line}");
        }
        words
    }

    #[test]
    fn the_service_runs_put_for_the_profile_whatever_the_names_are() {
        for name in [
            "nightly",
            "a b",
            "100%n",
            "$HOME ${x}",
            "it's \"q\" \\",
            "line\nbreak\t",
            "ü",
        ] {
            let job = Job {
                program: format!("/opt/{name}"),
                config: format!("/home/{name}.toml"),
                ..job(name, When::Hours(6))
            };
            let service = job.service();
            let profile = format!("--profile={name}");
            let expected = [&job.program, "--config", &job.config, &profile, "put"];
            assert_eq!(words(value(&service, "ExecStart")), expected, "{service}");
        }
    }

    #[test]
    fn every_profile_has_units_of_its_own_and_none_leads_out_of_their_directory() {
        let unit = |name| job(name, When::Hours(6)).unit();
        assert_eq!(unit("nightly-2.x"), "uploader-nightly-2.x");
        assert_eq!(unit("../a b"), r"uploader-..\x2fa\x20b");
        assert_ne!(unit(r"\x2f"), unit("/"));
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_will_not_waits_for_the_timer() {
        let service = job("nightly", When::Hours(6)).service();
        assert_eq!(value(&service, "Restart"), "on-failure");
        let never_again = value(&service, "RestartPreventExitStatus").split(' ');
        assert_eq!(never_again.collect::<Vec<_>>(), ["1", "2", "3", "4"]);
        assert_eq!(value(&service, "SuccessExitStatus"), "130");
    }

    #[test]
    fn each_way_to_say_when_is_known_to_systemd_and_cron() {
        for (when, calendar, seconds, cron) in [
            (When::At(time!(02:30)), "*-*-* 02:30:00", "900", Some("30 2 * * *")),
            (When::Minutes(15), "*-*-* *:00/15:00", "90", Some("*/15 * * * *")),
            (When::Hours(1), "*-*-* 00/01:00:00", "360", Some("0 */1 * * *")),
            (When::Hours(6), "*-*-* 00/06:00:00", "900", Some("0 */6 * * *")),
            (When::Calendar("Sun 04:00".into()), "Sun 04:00", "60", None),
        ] {
            let job = job("nightly", when);
            let timer = job.timer();
            assert_eq!(value(&timer, "OnCalendar"), calendar);
            assert_eq!(value(&timer, "RandomizedDelaySec"), seconds);
            let line = job.cron_line().ok();
            assert_eq!(line.is_some(), cron.is_some(), "{line:?}");
            assert!(line.unwrap_or_default().starts_with(cron.unwrap_or_default()));
        }
    }

    /// A command as cron hands it on: what `\%` and, where it does that too, `\\` stand for, up to the first `%` that stands
    /// for itself.
    fn through_cron(command: &str, takes_backslashes: bool) -> String {
        let (mut handed, mut rest) = (String::new(), command.chars());
        while let Some(c) = rest.next() {
            match c {
                '%' => break,
                '\\' => match rest.next() {
                    Some('%') => handed.push('%'),
                    Some('\\') if takes_backslashes => handed.push('\\'),
                    next => handed.extend(['\\'].into_iter().chain(next)),
                },
                c => handed.push(c),
            }
        }
        handed
    }

    #[test]
    fn a_line_for_cron_is_one_line_whose_words_a_shell_takes_as_they_are() {
        let names = [
            "nightly",
            "a b",
            "100% of it",
            "it's $HOME",
            r"\",
            r"a\b",
            r"\\%",
            r"\%\",
            r"\'\\'%'",
            "%%",
            "",
        ];
        for (name, takes_backslashes) in names.into_iter().flat_map(|name| [(name, false), (name, true)]) {
            let job = Job {
                program: format!("/opt/{name}"),
                config: format!("/home/{name}.toml"),
                ..job(name, When::At(time!(02:30)))
            };
            let line = job.cron_line().unwrap();
            let (command, end) = line.strip_prefix("30 2 * * * ").unwrap().split_at(line.len() - 12);
            assert_eq!(end, "\n");
            let command = through_cron(command, takes_backslashes);
            let script = format!("set -- {command}\nprintf '%s\\n' \"$@\"");
            let shell = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            let said = String::from_utf8(shell.stdout).unwrap();
            let expected = [
                "nice",
                "-n",
                "10",
                &job.program,
                "--config",
                &job.config,
                &format!("--profile={name}"),
                "put",
                "--quiet",
            ];
            assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{line}");
        }
        assert!(job("two\nlines", When::Hours(1)).cron_line().is_err());
    }

    #[test]
    fn times_that_do_not_come_again_are_refused() {
        assert_eq!(When::every("15m"), Ok(When::Minutes(15)));
        assert_eq!(When::every("6h"), Ok(When::Hours(6)));
        for bad in ["", "6", "h", "5h", "7m", "60m", "24h", "0h", "-1h", "6 h", "1d"] {
            assert!(When::every(bad).is_err(), "{bad}");
        }
        assert_eq!(When::at("2:05"), Ok(When::At(time!(02:05))));
        for bad in ["", "24:00", "2:5", "2", "02:30:00", "+2:05", "2:+5"] {
            assert!(When::at(bad).is_err(), "{bad}");
        }
        for bad in ["", " ", "daily\nExecStart=x", "a\\", "%h"] {
            assert!(When::calendar(bad).is_err(), "{bad}");
        }
    }
}
