//! What events of a stream of all rooms, and answers to calls to catch up, say about rooms.

use serde_json::Value;

use crate::evidence::{PlainEntry, RoomNews};

/// What the event `name` with this data says, room by room; `None` if no gateway may send it.
pub(super) fn event_news(name: &str, data: &Value) -> Option<Vec<(String, RoomNews)>> {
    match name {
        "ping" => Some(Vec::new()),
        "read" => room_name(data).filter(|_| data["read_seq"].is_i64()).map(|_| Vec::new()),
        "ready" | "rooms" => states(&data["rooms"]),
        "reset" => {
            let rooms = data["rooms"].as_array()?.iter();
            rooms.map(|room| Some((room_name(room)?, RoomNews::Reset(room["head"].as_i64()?)))).collect()
        }
        _ => Some(vec![(room_name(data)?, RoomNews::Entry(PlainEntry::parse(name, data)?))]),
    }
}

/// What an answer to a call to catch up says, in an order in which it can be applied; `None` if it is no answer. The entries of a
/// first answer are previews.
pub(super) fn answer_news(answer: &Value, is_first: bool) -> Option<Vec<(String, RoomNews)>> {
    let mut news = Vec::new();
    for name in answer["gone"].as_array()? {
        news.push((name.as_str()?.to_owned(), RoomNews::Gone));
    }
    for room in answer["rooms"].as_array()? {
        let name = room_name(room)?;
        news.push((name.clone(), RoomNews::State(room["head"].as_i64()?)));
        if let Some(gap) = room.get("gap") {
            news.push((name.clone(), RoomNews::Gap(gap["from"].as_i64()?, gap["to"].as_i64()?)));
        }
        for entry in room["entries"].as_array()? {
            let data = &entry["data"];
            let parsed = PlainEntry::parse(entry["event"].as_str()?, data).filter(|_| data["name"] == name.as_str())?;
            let entry = if is_first {
                RoomNews::Preview(parsed)
            } else {
                RoomNews::Entry(parsed)
            };
            news.push((name.clone(), entry));
        }
    }
    Some(news)
}

/// What rooms are, and which are gone.
fn states(rooms: &Value) -> Option<Vec<(String, RoomNews)>> {
    let state = |room: &Value| {
        let news = if room["gone"] == true {
            RoomNews::Gone
        } else {
            RoomNews::State(room["head"].as_i64()?)
        };
        Some((room_name(room)?, news))
    };
    rooms.as_array()?.iter().map(state).collect()
}

fn room_name(data: &Value) -> Option<String> {
    data["name"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "017f22e2-79b0-8cc3-98c4-dc0c0c07398f";

    fn message(room: &str) -> Value {
        json!({"id": ID, "seq": 4, "name": room, "username": "ann", "message": "hello"})
    }

    #[test]
    fn events_are_parsed_and_unknown_ones_are_none() {
        let rooms = json!({"rooms": [{"name": "one", "head": 3}, {"name": "two", "gone": true}]});
        let expected = vec![
            ("one".to_owned(), RoomNews::State(3)),
            ("two".to_owned(), RoomNews::Gone),
        ];
        assert_eq!(event_news("ready", &rooms), Some(expected.clone()));
        assert_eq!(event_news("rooms", &rooms), Some(expected));
        let reset = json!({"reason": "foreign", "rooms": [{"name": "one", "head": 3}]});
        assert_eq!(event_news("reset", &reset), Some(vec![("one".to_owned(), RoomNews::Reset(3))]));
        let entry = event_news("message", &message("one")).unwrap();
        assert!(matches!(&entry[..], [(room, RoomNews::Entry(PlainEntry::Message(_)))] if room == "one"));
        assert_eq!(event_news("ping", &json!({})), Some(vec![]));
        assert_eq!(event_news("read", &json!({"name": "one", "read_seq": 3})), Some(vec![]));
        for (name, data) in [
            ("read", json!({"name": "one"})),
            ("rooms", json!({"rooms": [{"name": "one"}]})),
            ("message", json!({"id": ID, "seq": 4, "message": "without a room"})),
            ("forged", message("one")),
            ("reset", json!({"head": 3})),
        ] {
            assert_eq!(event_news(name, &data), None, "{name} {data}");
        }
    }

    #[test]
    fn answers_are_parsed_and_entries_of_other_rooms_are_refused() {
        let answer = |room: &str| {
            let entries = [json!({"event": "message", "data": message(room)})];
            json!({"cursor": "AQab", "more": false, "gone": ["old"],
                "rooms": [{"name": "one", "head": 4, "gap": {"from": 2, "to": 3}, "entries": entries}]})
        };
        let kinds = |is_first| {
            let news = answer_news(&answer("one"), is_first).unwrap();
            news.into_iter().map(|(_, news)| news).collect::<Vec<_>>()
        };
        let entry = PlainEntry::parse("message", &message("one")).unwrap();
        let before = [RoomNews::Gone, RoomNews::State(4), RoomNews::Gap(2, 3)];
        assert_eq!(kinds(false), [&before[..], &[RoomNews::Entry(entry.clone())]].concat());
        assert_eq!(kinds(true), [&before[..], &[RoomNews::Preview(entry)]].concat());
        assert_eq!(answer_news(&answer("two"), false), None);
        assert_eq!(answer_news(&json!({"rooms": []}), false), None);
    }
}
