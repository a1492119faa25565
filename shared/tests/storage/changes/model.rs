//! The rules of changes as a model in memory, and what a client makes of the entries that it gets.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use shared::domain::{
    Change, MemberChange, MessageExtra, MessageId, Outcome, Refusal, RoomChange, RoomEntry, Seq, StoredMessage,
};

/// Who does it.
pub(super) const USERS: [&str; 3] = ["ann", "bob", "eve"];

/// The texts and emojis that the sequences use.
pub(super) const TEXTS: [&str; 3] = ["one", "two", "three"];
pub(super) const EMOJIS: [&str; 3] = ["👍", "🎉", "❤️"];

/// What a user does; messages are counted in the order in which they were posted.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Post {
        reply_to: Option<usize>,
        mention: bool,
    },
    Edit {
        index: usize,
        text: usize,
    },
    Delete {
        index: usize,
        as_moderator: bool,
    },
    React {
        index: usize,
        emoji: usize,
        on: bool,
    },
    /// Joins the room, or leaves it.
    Member {
        joins: bool,
    },
    /// The last command once more, as after a failover of Redis.
    Repeat,
}

pub(super) fn actions() -> impl Strategy<Value = Vec<(usize, Action, bool)>> {
    let action = prop_oneof![
        3 => (proptest::option::weighted(0.3, 0..12_usize), any::<bool>())
            .prop_map(|(reply_to, mention)| Action::Post { reply_to, mention }),
        3 => (0..12_usize, 0..3_usize).prop_map(|(index, text)| Action::Edit { index, text }),
        1 => (0..12_usize, any::<bool>()).prop_map(|(index, as_moderator)| Action::Delete { index, as_moderator }),
        4 => (0..12_usize, 0..3_usize, proptest::bool::weighted(0.7))
            .prop_map(|(index, emoji, on)| Action::React { index, emoji, on }),
        1 => any::<bool>().prop_map(|joins| Action::Member { joins }),
        1 => Just(Action::Repeat),
    ];
    // Who, what, and whether the commit ends with it.
    proptest::collection::vec((0..3_usize, action, proptest::bool::weighted(0.4)), 60..90)
}

/// A message of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Modelled {
    sender: usize,
    text: String,
    reply_to: Option<Seq>,
    mentions: bool,
    is_edited: bool,
    is_deleted: bool,
    reactions: BTreeMap<String, BTreeSet<usize>>,
}

/// A room as the rules say, in memory.
#[derive(Default)]
pub(super) struct Model {
    messages: BTreeMap<Seq, Modelled>,
    /// The entries of the room, in words.
    pub(super) entries: Vec<String>,
    done: BTreeMap<MessageId, Outcome>,
    members: BTreeSet<usize>,
}

impl Model {
    /// A room as it was created.
    pub(super) fn created() -> Self {
        let mut model = Self::default();
        model.next("created false".to_owned());
        model
    }

    /// Lets `user` join or leave. What they are already changes nothing.
    pub(super) fn set_member(&mut self, user: usize, joins: bool) {
        if joins && self.members.insert(user) {
            self.next(format!("{} joined as member", USERS[user]));
        } else if !joins && self.members.remove(&user) {
            self.next(format!("{} left", USERS[user]));
        }
    }

    fn next(&mut self, entry: String) -> Seq {
        self.entries.push(entry);
        Seq(i64::try_from(self.entries.len()).unwrap())
    }

    /// Does `action` of `user` on the message at `target`.
    pub(super) fn apply(&mut self, id: MessageId, user: usize, action: &Action, target: Option<Seq>) -> Outcome {
        if let Some(Outcome::Stored(seq)) = self.done.get(&id) {
            return Outcome::Stored(*seq);
        }
        let outcome = self.decide(user, action, target).map_or_else(Outcome::Refused, Outcome::Stored);
        self.done.insert(id, outcome);
        outcome
    }

    fn decide(&mut self, user: usize, action: &Action, target: Option<Seq>) -> Result<Seq, Refusal> {
        let found = target.and_then(|seq| Some((seq, self.messages.get(&seq)?.clone())));
        let (seq, mut message) = match (action, found) {
            (Action::Post { reply_to, mention }, found) => {
                if reply_to.is_some() && found.as_ref().is_none_or(|(_, message)| message.is_deleted) {
                    return Err(Refusal::NoSuchReply);
                }
                let seq = self.next("message".to_owned());
                let new = Modelled {
                    sender: user,
                    text: TEXTS[0].to_owned(),
                    reply_to: reply_to.and(found.map(|(seq, _)| seq)),
                    mentions: *mention,
                    ..Modelled::default()
                };
                self.messages.insert(seq, new);
                return Ok(seq);
            }
            (_, None) => return Err(Refusal::NoSuchMessage),
            (_, Some(found)) => found,
        };
        let may_alter = message.sender == user;
        let entry = match action {
            Action::Edit { .. } if !may_alter => return Err(Refusal::Forbidden),
            Action::Delete { as_moderator, .. } if !may_alter && !as_moderator => return Err(Refusal::Forbidden),
            Action::Delete { .. } if message.is_deleted => return Ok(seq),
            Action::Edit { .. } | Action::React { .. } if message.is_deleted => return Err(Refusal::Deleted),
            Action::Edit { text, .. } if message.text == TEXTS[*text] => return Ok(seq),
            Action::Edit { text, .. } => {
                (message.text, message.is_edited) = (TEXTS[*text].to_owned(), true);
                format!("edit {}", seq.0)
            }
            Action::Delete { .. } => {
                let kept = (message.sender, message.reply_to);
                message = Modelled {
                    sender: kept.0,
                    reply_to: kept.1,
                    is_deleted: true,
                    ..Modelled::default()
                };
                format!("delete {}", seq.0)
            }
            Action::React { emoji, on, .. } => {
                let users = message.reactions.entry(EMOJIS[*emoji].to_owned()).or_default();
                if !(if *on { users.insert(user) } else { users.remove(&user) }) {
                    return Ok(seq);
                }
                let count = users.len();
                message.reactions.retain(|_, users| !users.is_empty());
                format!("reaction {} {} {on} {count}", seq.0, EMOJIS[*emoji])
            }
            Action::Post { .. } | Action::Member { .. } | Action::Repeat => unreachable!("decided above"),
        };
        self.messages.insert(seq, message);
        Ok(self.next(entry))
    }

    /// The messages, in words.
    pub(super) fn state(&self, ids: &BTreeMap<Seq, MessageId>) -> Vec<String> {
        let reactions = |message: &Modelled| -> BTreeMap<String, usize> {
            message.reactions.iter().map(|(emoji, users)| (emoji.clone(), users.len())).collect()
        };
        let words = |(seq, message): (&Seq, &Modelled)| {
            let reply_to = message.reply_to.map(|seq| ids[&seq]);
            let (text, flags) = (&message.text, (message.is_edited, message.is_deleted, message.mentions));
            format!("{} {text:?} {reply_to:?} {flags:?} {:?}", seq.0, reactions(message))
        };
        self.messages.iter().map(words).collect()
    }
}

/// Stored messages in the words of [`Model::state`].
pub(super) fn state(messages: &[StoredMessage]) -> Vec<String> {
    let words = |message: &StoredMessage| {
        let extra = message.extra.as_deref().cloned().unwrap_or_default();
        let reactions: BTreeMap<String, u32> =
            extra.reactions.iter().map(|known| (known.emoji.as_str().to_owned(), known.count)).collect();
        let flags = (extra.edited_on.is_some(), extra.deleted, !extra.mentions.is_empty());
        format!("{} {:?} {:?} {flags:?} {reactions:?}", message.seq.0, message.text, extra.reply_to)
    };
    messages.iter().map(words).collect()
}

/// Entries in the words of [`Model::entries`].
pub(super) fn words(entries: &[RoomEntry]) -> Vec<String> {
    let one = |entry: &RoomEntry| match entry {
        RoomEntry::Message(_) => "message".to_owned(),
        RoomEntry::Change(change) => match &change.change {
            Change::Edit { target_seq, .. } => format!("edit {}", target_seq.0),
            Change::Delete { target_seq, .. } => format!("delete {}", target_seq.0),
            Change::Reaction {
                target_seq,
                emoji,
                on,
                count,
                ..
            } => {
                format!("reaction {} {} {on} {count}", target_seq.0, emoji.as_str())
            }
            Change::Member { member, change } => match change {
                MemberChange::Joined { role } => format!("{member} joined as {}", role.as_str()),
                MemberChange::Left => format!("{member} left"),
            },
            Change::Room(RoomChange::Created { private }) => format!("created {private}"),
        },
    };
    entries.iter().map(one).collect()
}

/// What a client has that applies `entries` in their order.
pub(super) fn applied(entries: &[RoomEntry]) -> Vec<StoredMessage> {
    let mut shown: BTreeMap<Seq, StoredMessage> = BTreeMap::new();
    for entry in entries {
        let change = match entry {
            RoomEntry::Message(message) => {
                shown.insert(message.seq, message.clone());
                continue;
            }
            RoomEntry::Change(change) => change,
        };
        let (Change::Edit { target_seq, .. } | Change::Delete { target_seq, .. } | Change::Reaction { target_seq, .. }) =
            &change.change
        else {
            continue;
        };
        // From before the position that the client started at.
        let Some(message) = shown.get_mut(target_seq) else {
            continue;
        };
        let extra = message.extra.get_or_insert_default();
        if extra.deleted {
            continue;
        }
        match &change.change {
            Change::Edit { text, .. } => {
                message.text.clone_from(text);
                extra.edited_on = Some(change.created_on);
            }
            Change::Delete { .. } => {
                message.text.clear();
                **extra = MessageExtra {
                    reply_to: extra.reply_to,
                    deleted: true,
                    ..MessageExtra::default()
                };
            }
            Change::Member { .. } | Change::Room(_) => unreachable!("they are about no message"),
            Change::Reaction { emoji, count, .. } => {
                extra.reactions.retain(|known| known.emoji != *emoji);
                if *count > 0 {
                    let emoji = emoji.clone();
                    extra.reactions.push(shared::domain::ReactionCount { emoji, count: *count });
                }
            }
        }
    }
    shown.into_values().collect()
}
