//! The terminal: a line to type in, and lines that come meanwhile.
#![expect(
    clippy::disallowed_types,
    reason = "the line editor's printer is one thing that many tasks print through"
)]

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use dialtone_chassis::Chassis;
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use tokio::sync::mpsc;

use super::commands::is_last;

/// Lines typed and not looked at yet.
const LINES: usize = 64;

type Printer = Box<dyn ExternalPrinter + Send>;

/// Prints above the line that is being typed. Cheap to clone.
#[derive(Clone)]
pub(super) struct Screen(Arc<Mutex<Option<Printer>>>);

impl Screen {
    /// Opens the terminal; the lines typed come out of the receiver until the end of input.
    pub(super) fn open(chassis: &Chassis) -> Result<(Self, mpsc::Receiver<String>)> {
        let mut editor = DefaultEditor::new()?;
        // Without a terminal (a pipe) there is no line to print above.
        let printer = editor.create_external_printer().ok().map(|printer| Box::new(printer) as Printer);
        let (sender, lines) = mpsc::channel(LINES);
        let blocking = chassis.blocking.clone();
        chassis
            .tasks
            .spawn("phone lines", async move { blocking.run(move || read_lines(editor, &sender)).await });
        Ok((Self(Arc::new(Mutex::new(printer))), lines))
    }

    /// Prints a line.
    pub(super) fn say(&self, line: impl std::fmt::Display) {
        let mut printer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = format!("{line}\n");
        let printed = printer.as_mut().is_some_and(|printer| printer.print(text.clone()).is_ok());
        if !printed {
            print!("{text}");
        }
    }
}

fn read_lines(mut editor: DefaultEditor, lines: &mpsc::Sender<String>) {
    loop {
        match editor.readline("› ") {
            Ok(line) => {
                // A history that can't grow is no reason to stop typing.
                let _history = editor.add_history_entry(&line);
                // Nobody can be made to stop reading a terminal: so it is not read again after the last line.
                let last = is_last(&line);
                if lines.blocking_send(line).is_err() || last {
                    return;
                }
            }
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => return,
            Err(error) => {
                tracing::debug!(%error, "the terminal is gone");
                return;
            }
        }
    }
}
