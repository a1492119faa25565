//! What a client wants of a user's stream: some rooms, and some kinds of events.

use std::collections::HashSet;

use shared::domain::{Invalid, RoomName};

use super::event_kind::Kind;
use super::frame;

/// Rooms that a client may name.
const ROOMS_AT_MOST: usize = 200;

/// The name of messages, whose events have none.
const MESSAGE: &str = "message";

/// Kinds of events that a client may choose. The others always come.
const CHOICE: [Kind; 9] = [
    Kind::Edit,
    Kind::Delete,
    Kind::Reaction,
    Kind::Member,
    Kind::Room,
    Kind::Rooms,
    Kind::Read,
    Kind::Typing,
    Kind::Presence,
];

/// What of a stream is sent. A cursor says how far the client has got with what it chose, so it goes on with the same filter.
///
/// Most clients choose nothing, and a gateway has tens of thousands of streams: then it is one pointer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamFilter(Option<Box<Choice>>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Choice {
    rooms: Option<HashSet<String>>,
    kinds: Option<ChosenKinds>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ChosenKinds {
    messages: bool,
    kinds: Vec<Kind>,
}

impl StreamFilter {
    /// Parses the lists of rooms and kinds that a client sent, with commas between.
    pub fn parse(rooms: Option<&str>, kinds: Option<&str>) -> Result<Self, Invalid> {
        let choice = Choice {
            rooms: rooms.map(parse_rooms).transpose()?,
            kinds: kinds.map(parse_kinds).transpose()?,
        };
        let is_any = choice.rooms.is_some() || choice.kinds.is_some();
        Ok(Self(is_any.then(|| Box::new(choice))))
    }

    /// Whether the room of this name is followed.
    #[must_use]
    pub fn has_room(&self, name: &str) -> bool {
        self.choice().and_then(|choice| choice.rooms.as_ref()).is_none_or(|rooms| rooms.contains(name))
    }

    /// Whether events of this kind are sent.
    #[must_use]
    pub(super) fn shows(&self, kind: Kind) -> bool {
        let always = !CHOICE.contains(&kind);
        always || self.kinds().is_none_or(|chosen| chosen.kinds.contains(&kind))
    }

    /// Whether an entry of a room is sent, by the lines of its event.
    #[must_use]
    pub(super) fn shows_entry(&self, lines: &[u8]) -> bool {
        let Some(chosen) = self.kinds() else { return true };
        match frame::name_of(lines) {
            None => chosen.messages,
            Some(name) => chosen.kinds.iter().any(|kind| kind.name().as_bytes() == name),
        }
    }

    fn choice(&self) -> Option<&Choice> {
        self.0.as_deref()
    }

    fn kinds(&self) -> Option<&ChosenKinds> {
        self.choice()?.kinds.as_ref()
    }
}

fn parse_rooms(raw: &str) -> Result<HashSet<String>, Invalid> {
    let names: HashSet<String> = raw.split(',').map(str::to_owned).collect();
    if names.len() > ROOMS_AT_MOST {
        let message = format!("Name at most {ROOMS_AT_MOST} rooms.");
        return Err(Invalid::new("rooms", "too_many", message));
    }
    if names.iter().any(|name| RoomName::parse(name).is_err()) {
        return Err(Invalid::new("rooms", "invalid", "Must be names of rooms with commas between."));
    }
    Ok(names)
}

fn parse_kinds(raw: &str) -> Result<ChosenKinds, Invalid> {
    let mut chosen = ChosenKinds::default();
    for name in raw.split(',') {
        if name == MESSAGE {
            chosen.messages = true;
        } else if let Some(kind) = CHOICE.into_iter().find(|kind| kind.name() == name) {
            chosen.kinds.push(kind);
        } else {
            let known: Vec<&str> = CHOICE.iter().map(|kind| kind.name()).collect();
            let message = format!("Must be some of {MESSAGE},{} with commas between.", known.join(","));
            return Err(Invalid::new("types", "unknown", message));
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_choice_everything_is_sent() {
        let all = StreamFilter::parse(None, None).unwrap();
        assert!(all.has_room("lobby") && all.shows(Kind::Typing) && all.shows_entry(b"data: {}\n"));
    }

    #[test]
    fn what_is_not_chosen_is_left_out() {
        let some = StreamFilter::parse(Some("lobby,den"), Some("message,edit,read")).unwrap();
        assert!(some.has_room("den") && !some.has_room("attic"));
        assert!(some.shows(Kind::Read) && !some.shows(Kind::Typing));
        assert!(some.shows(Kind::Ping) && some.shows(Kind::Reset), "these always come");
        assert!(some.shows_entry(b"data: {}\n") && some.shows_entry(b"event: edit\ndata: {}\n"));
        assert!(!some.shows_entry(b"event: delete\ndata: {}\n"));
    }

    #[test]
    fn a_wrong_choice_is_refused_and_explained() {
        let code = |rooms, kinds| StreamFilter::parse(rooms, kinds).unwrap_err().code;
        assert_eq!(code(Some("a b"), None), "invalid");
        assert_eq!(code(Some(""), None), "invalid");
        assert_eq!(code(None, Some("message,ping")), "unknown");
        let many = (0..=ROOMS_AT_MOST).map(|number| format!("r{number}")).collect::<Vec<_>>().join(",");
        assert_eq!(code(Some(&many), None), "too_many");
    }
}
