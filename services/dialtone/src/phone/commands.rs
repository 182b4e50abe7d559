//! What a line typed at the phone means. Pure.

use dialtone_numbers::normalise;

use super::REGION;

/// A line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Send to whom one is talking with.
    Say(String),
    Contacts,
    Add {
        name: String,
        number: String,
    },
    Remove {
        name: String,
    },
    To(String),
    Sms(String),
    Plan(String),
    IfOffline {
        sms: bool,
    },
    Offline,
    Online,
    Status(String),
    Watch(Vec<String>),
    /// Text from the bare handset, without Dialtone.
    Text {
        to: String,
        text: String,
    },
    Help,
    Quit,
    Nothing,
    /// Not understood; how it should have been.
    Wrong(&'static str),
}

/// What `/help` says.
pub(super) const HELP: &str = "\
text                     send it to whom you are talking with
/to NAME or NUMBER       talk with somebody
/contacts                the address book, and who of it is a user
/contacts add NAME NUMBER, /contacts remove NAME
/plan TEXT               what sending it would do, and cost, without sending
/sms TEXT                send it as SMS, whoever the receiver is
/if-offline store|sms    what becomes of messages to somebody who is offline
/offline, /online        close or open the session
/status TEXT             your status text
/watch NAME …            follow presence of just these
/text WHOM TEXT          an ordinary SMS from this handset
/quit";

/// Understands a line.
pub(super) fn parse(line: &str) -> Command {
    let line = line.trim();
    if line.is_empty() {
        return Command::Nothing;
    }
    let Some(rest) = line.strip_prefix('/') else { return Command::Say(line.to_owned()) };
    let (word, rest) = rest.split_once(' ').map_or((rest, ""), |(word, rest)| (word, rest.trim()));
    match (word, rest) {
        ("contacts", "") => Command::Contacts,
        ("contacts", rest) => contacts(rest),
        ("to", "") => Command::Wrong("/to NAME or NUMBER"),
        ("to", whom) => Command::To(whom.to_owned()),
        ("sms", "") => Command::Wrong("/sms TEXT"),
        ("sms", text) => Command::Sms(text.to_owned()),
        ("plan", "") => Command::Wrong("/plan TEXT"),
        ("plan", text) => Command::Plan(text.to_owned()),
        ("if-offline", "store") => Command::IfOffline { sms: false },
        ("if-offline", "sms") => Command::IfOffline { sms: true },
        ("if-offline", _) => Command::Wrong("/if-offline store or /if-offline sms"),
        ("offline", _) => Command::Offline,
        ("online", _) => Command::Online,
        ("status", text) => Command::Status(text.to_owned()),
        ("watch", names) => Command::Watch(names.split_whitespace().map(str::to_owned).collect()),
        ("text", rest) => match addressed(rest) {
            Some((to, text)) => Command::Text { to: to.to_owned(), text: text.to_owned() },
            None => Command::Wrong("/text NAME TEXT or /text NUMBER TEXT"),
        },
        ("help", _) => Command::Help,
        ("quit" | "exit", _) => Command::Quit,
        _ => Command::Wrong("no such command; /help lists them"),
    }
}

/// Whether nothing is typed after this line.
pub(super) fn is_last(line: &str) -> bool {
    parse(line) == Command::Quit
}

/// Whom a text is for, and the text: a number may have blanks in it, a name has none.
pub(super) fn addressed(line: &str) -> Option<(&str, &str)> {
    let in_number = |c: char| c.is_ascii_digit() || "+-.() ".contains(c);
    let end = line.find(|c| !in_number(c)).unwrap_or(line.len());
    let blanks = line[..end].rmatch_indices(' ').map(|(at, _)| at);
    let number = blanks.into_iter().find(|at| normalise(&line[..*at], REGION).is_ok());
    let (to, text) = match number {
        Some(at) => line.split_at(at),
        None => line.split_once(' ')?,
    };
    let text = text.trim();
    (!text.is_empty()).then_some((to.trim(), text))
}

fn contacts(rest: &str) -> Command {
    match rest.split_once(' ') {
        Some(("add", rest)) => match rest.trim().split_once(' ') {
            Some((name, number)) => Command::Add { name: name.to_owned(), number: number.trim().to_owned() },
            None => Command::Wrong("/contacts add NAME NUMBER"),
        },
        Some(("remove", name)) => Command::Remove { name: name.trim().to_owned() },
        _ => Command::Wrong("/contacts, /contacts add NAME NUMBER, /contacts remove NAME"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        assert_eq!(parse("hello there"), Command::Say("hello there".into()));
        assert_eq!(parse("/to ben"), Command::To("ben".into()));
        let add = Command::Add { name: "ben".into(), number: "(415) 555-0102".into() };
        assert_eq!(parse("/contacts add ben (415) 555-0102"), add);
        assert_eq!(parse("/contacts remove ben"), Command::Remove { name: "ben".into() });
        assert_eq!(parse("/watch a b"), Command::Watch(vec!["a".into(), "b".into()]));
        assert_eq!(parse("/if-offline sms"), Command::IfOffline { sms: true });
        assert_eq!(parse("  "), Command::Nothing);
        for wrong in
            ["/to", "/contacts add ben", "/contacts what", "/if-offline maybe", "/nothing", "/text 12"]
        {
            assert!(matches!(parse(wrong), Command::Wrong(_)), "{wrong}");
        }
    }

    #[test]
    fn a_text_is_for_a_name_or_a_number_with_blanks() {
        assert_eq!(addressed("carol see you"), Some(("carol", "see you")));
        assert_eq!(addressed("+14155550160 hello"), Some(("+14155550160", "hello")));
        assert_eq!(addressed("(415) 555-0160 hello you"), Some(("(415) 555-0160", "hello you")));
        assert_eq!(addressed("415 555 0160 12 apples"), Some(("415 555 0160", "12 apples")));
        assert_eq!(addressed("+1 415 555 0160 5"), Some(("+1 415 555 0160", "5")));
        // Where a part of it would be a number too, the whole is meant.
        assert_eq!(addressed("+49 30 9018 2030 hello"), Some(("+49 30 9018 2030", "hello")));
        assert_eq!(addressed("carol"), None);
        assert_eq!(addressed(""), None);
    }

    #[test]
    fn every_command_is_in_the_help() {
        for word in [
            "/to",
            "/contacts",
            "/plan",
            "/sms",
            "/if-offline",
            "/offline",
            "/online",
            "/status",
            "/watch",
            "/text",
            "/quit",
        ] {
            assert!(HELP.contains(word), "{word}");
        }
    }
}
