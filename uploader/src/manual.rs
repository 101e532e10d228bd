//! What shells and `man` want to know of the command line, made from its own definition.

use std::io;

use clap_complete::Shell;
use clap_mangen::Man;

use crate::settings::command;

/// A script that has the shell complete the command line.
pub(crate) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "uploader", &mut script);
    script
}

/// The manual's page of the program, or of one of its commands, in roff.
pub(crate) fn page(of: Option<&str>) -> io::Result<Vec<u8>> {
    let mut program = command();
    // What the commands have from the program is known to them only then.
    program.build();
    let described = match of {
        None => &program,
        Some(name) => program.find_subcommand(name).ok_or_else(|| {
            let what = format!("there is no command {name:?}; `uploader --help` lists them");
            io::Error::new(io::ErrorKind::NotFound, what)
        })?,
    };
    let mut page = Vec::new();
    Man::new(described.clone()).render(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands_and_their_flags() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(completions(*shell)).unwrap();
            assert!(
                script.contains("put") && script.contains("limit-rate"),
                "{shell}: {script}"
            );
        }
    }

    #[test]
    fn the_manual_has_a_page_of_the_program_and_one_of_each_command() {
        let text = |command| String::from_utf8(page(command).unwrap()).unwrap();
        let program = text(None);
        assert!(program.contains("put") && program.contains("Exit status"), "{program}");
        assert!(text(Some("put")).contains("limit\\-rate"), "{}", text(Some("put")));
        assert!(page(Some("fly")).is_err());
    }
}
