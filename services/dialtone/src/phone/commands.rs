//! What a line typed at the phone means. Pure.

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
        number: String,
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
/text NUMBER TEXT        an ordinary SMS from this handset
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
        ("text", rest) => match rest.split_once(' ') {
            Some((number, text)) => Command::Text { number: number.to_owned(), text: text.trim().to_owned() },
            None => Command::Wrong("/text NUMBER TEXT"),
        },
        ("help", _) => Command::Help,
        ("quit" | "exit", _) => Command::Quit,
        _ => Command::Wrong("no such command; /help lists them"),
    }
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
