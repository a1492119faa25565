//! Decides the changes of a commit on the messages as they stand in its transaction, those of the same commit included.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::domain::{
    Accepted, AcceptedChange, Change, ChangeRequest, Emoji, MessageExtra, MessageId, MessageText, ReactionCount,
    Refusal, RoomId, Seq, StoredMessage, Timestamp, UserId,
};
use crate::storage::commit_statements::{AlteredMessage, CommitStatements, MessageRow};

/// A message that a change or a reply is about.
struct Target {
    room: RoomId,
    seq: Seq,
    sender: UserId,
    created_on: Timestamp,
    text: String,
    extra: MessageExtra,
    /// The stored text, once another one replaces it.
    old_text: Option<String>,
    /// Index of its row, if it is new in this commit.
    new_row: Option<usize>,
    is_altered: bool,
}

/// The messages that changes and replies of one commit are about, as they stand after those decided so far.
#[derive(Default)]
pub(super) struct Targets {
    wanted: HashSet<MessageId>,
    messages: HashMap<MessageId, Target>,
}

/// A reaction of one user: the message, by its room and seq, the emoji and the user.
pub(in crate::storage) type ReactionKey = (RoomId, Seq, Emoji, UserId);

/// The reactions that changes of one commit are about: whether each was there before, and is there now.
#[derive(Default)]
pub(super) struct Reactions(BTreeMap<ReactionKey, (bool, bool)>);

impl Targets {
    /// Reads the `wanted` messages that are stored.
    pub(super) async fn load<T: CommitStatements>(tx: &mut T, wanted: HashSet<MessageId>) -> Result<Self, sqlx::Error> {
        let ids: Vec<MessageId> = wanted.iter().copied().collect();
        let mut messages = HashMap::new();
        for (id, room, seq, sender, created_on, text, extra) in tx.targets(&ids).await? {
            let target = Target {
                room: RoomId(room),
                seq: Seq(seq),
                sender: UserId(sender),
                created_on: Timestamp(created_on),
                text,
                extra: decode_extra(extra.as_deref())?.map_or_else(MessageExtra::default, |extra| *extra),
                old_text: None,
                new_row: None,
                is_altered: false,
            };
            messages.insert(MessageId(id), target);
        }
        Ok(Self { wanted, messages })
    }

    /// Notes a message of this commit, whose row has the index `row`, if something is about it.
    pub(super) fn add_new(&mut self, stored: &StoredMessage, message: &Accepted, row: usize) {
        if self.wanted.contains(&stored.id) {
            let target = Target {
                room: message.room,
                seq: stored.seq,
                sender: message.sender,
                created_on: message.created_on,
                text: stored.text.clone(),
                extra: stored.extra.as_deref().cloned().unwrap_or_default(),
                old_text: None,
                new_row: Some(row),
                is_altered: false,
            };
            self.messages.insert(stored.id, target);
        }
    }

    /// The seq of the message `id`, if it is in `room` and not deleted.
    pub(super) fn live_in(&self, room: RoomId, id: MessageId) -> Option<Seq> {
        let target = self.messages.get(&id).filter(|target| target.room == room && !target.extra.deleted)?;
        Some(target.seq)
    }

    /// Decides `change` and does to its message what it asks for. Returns the seq of the message, and what happened, if anything
    /// did.
    pub(super) fn apply(
        &mut self,
        change: &AcceptedChange,
        reactions: &mut Reactions,
    ) -> Result<(Seq, Option<Change>), Refusal> {
        let target = self.messages.get_mut(&change.target).filter(|target| target.room == change.room);
        let target = target.ok_or(Refusal::NoSuchMessage)?;
        let altered = match &change.request {
            ChangeRequest::Edit { text, oldest } => target.edit(change, text, *oldest)?,
            ChangeRequest::Delete { as_moderator } => target.delete(change, *as_moderator, reactions)?,
            ChangeRequest::React { emoji, on } => target.react(change, emoji, *on, reactions)?,
        };
        target.is_altered |= altered.is_some();
        Ok((target.seq, altered))
    }

    /// The stored messages that are to be altered. Those that are new in this commit are altered in `rows`.
    pub(super) fn altered(&mut self, rows: &mut [MessageRow<'_>]) -> Vec<AlteredMessage> {
        let mut altered = Vec::new();
        for target in self.messages.values_mut().filter(|target| target.is_altered) {
            let extra = encode_extra(&target.extra);
            match target.new_row {
                Some(row) => rows[row].alter(&target.text, extra),
                None => altered.push(AlteredMessage {
                    room: target.room,
                    seq: target.seq,
                    text: target.text.clone(),
                    extra,
                    sender: target.sender,
                    old_text: target.old_text.take(),
                }),
            }
        }
        altered.sort_unstable_by_key(|message| (message.room, message.seq));
        altered
    }

    /// The messages that this commit deletes.
    pub(super) fn deleted(&self) -> Vec<(RoomId, Seq)> {
        let is_deleted = |target: &&Target| target.is_altered && target.extra.deleted;
        self.messages.values().filter(is_deleted).map(|target| (target.room, target.seq)).collect()
    }
}

impl Target {
    fn edit(
        &mut self,
        change: &AcceptedChange,
        text: &MessageText,
        oldest: Timestamp,
    ) -> Result<Option<Change>, Refusal> {
        if self.sender != change.sender {
            return Err(Refusal::Forbidden);
        }
        if self.extra.deleted {
            return Err(Refusal::Deleted);
        }
        if self.created_on < oldest {
            return Err(Refusal::EditWindowClosed);
        }
        if self.text == text.as_str() {
            return Ok(None);
        }
        self.replace_text(text.as_str());
        self.extra.edited_on = Some(change.created_on);
        Ok(Some(Change::Edit {
            target: change.target,
            target_seq: self.seq,
            text: self.text.clone(),
        }))
    }

    fn delete(
        &mut self,
        change: &AcceptedChange,
        as_moderator: bool,
        reactions: &mut Reactions,
    ) -> Result<Option<Change>, Refusal> {
        if self.sender != change.sender && !as_moderator {
            return Err(Refusal::Forbidden);
        }
        if self.extra.deleted {
            return Ok(None);
        }
        self.replace_text("");
        self.extra = MessageExtra {
            reply_to: self.extra.reply_to,
            posted_digest: self.extra.posted_digest,
            deleted: true,
            ..MessageExtra::default()
        };
        reactions.forget(self.room, self.seq);
        Ok(Some(Change::Delete {
            target: change.target,
            target_seq: self.seq,
        }))
    }

    fn react(
        &mut self,
        change: &AcceptedChange,
        emoji: &Emoji,
        on: bool,
        reactions: &mut Reactions,
    ) -> Result<Option<Change>, Refusal> {
        if self.extra.deleted {
            return Err(Refusal::Deleted);
        }
        let key = (self.room, self.seq, emoji.clone(), change.sender);
        if reactions.has(&key) == on {
            return Ok(None);
        }
        let counts = &mut self.extra.reactions;
        let index = counts.iter().position(|known| known.emoji == *emoji);
        let count = match (index, on) {
            (Some(index), true) => {
                counts[index].count += 1;
                counts[index].count
            }
            (Some(index), false) => {
                counts[index].count = counts[index].count.saturating_sub(1);
                let left = counts[index].count;
                if left == 0 {
                    counts.remove(index);
                }
                left
            }
            (None, true) if counts.len() >= MessageExtra::MAX_REACTIONS => return Err(Refusal::TooManyReactions),
            (None, true) => {
                counts.push(ReactionCount {
                    emoji: emoji.clone(),
                    count: 1,
                });
                1
            }
            (None, false) => 0,
        };
        reactions.set(key, on);
        Ok(Some(Change::Reaction {
            target: change.target,
            target_seq: self.seq,
            emoji: emoji.clone(),
            on,
            count,
        }))
    }

    fn replace_text(&mut self, text: &str) {
        self.extra.posted_digest.get_or_insert_with(|| MessageText::digest(&self.text));
        let old = std::mem::replace(&mut self.text, text.to_owned());
        self.old_text.get_or_insert(old);
    }
}

impl Reactions {
    /// Reads whether the reactions that `changes` are about are there. One to a message that is new in this commit is not.
    pub(super) async fn load<T: CommitStatements>(
        tx: &mut T,
        changes: &[&AcceptedChange],
        targets: &Targets,
    ) -> Result<Self, sqlx::Error> {
        let mut keys: BTreeMap<ReactionKey, (bool, bool)> = BTreeMap::new();
        for change in changes {
            let target = targets.messages.get(&change.target).filter(|target| target.room == change.room);
            if let (Some(target), ChangeRequest::React { emoji, .. }) = (target, &change.request) {
                keys.insert((target.room, target.seq, emoji.clone(), change.sender), (false, false));
            }
        }
        if !keys.is_empty() {
            let asked: Vec<ReactionKey> = keys.keys().cloned().collect();
            for index in tx.reactions_among(&asked).await? {
                let key = asked.get(index).ok_or(sqlx::Error::RowNotFound)?;
                keys.insert(key.clone(), (true, true));
            }
        }
        Ok(Self(keys))
    }

    fn has(&self, key: &ReactionKey) -> bool {
        self.0.get(key).is_some_and(|(_, now)| *now)
    }

    fn set(&mut self, key: ReactionKey, on: bool) {
        self.0.entry(key).or_insert((false, false)).1 = on;
    }

    /// Forgets those of a message that is deleted: all its rows are removed.
    fn forget(&mut self, room: RoomId, seq: Seq) {
        self.0.retain(|key, _| (key.0, key.1) != (room, seq));
    }

    /// Those that are to be added, and those that are to be removed.
    pub(super) fn changed(&self) -> (Vec<ReactionKey>, Vec<ReactionKey>) {
        let keys = |of: (bool, bool)| self.0.iter().filter(move |(_, now)| **now == of).map(|(key, _)| key.clone());
        (keys((false, true)).collect(), keys((true, false)).collect())
    }
}

/// What SQL keeps in `messages.extra`.
pub(in crate::storage) fn encode_extra(extra: &MessageExtra) -> Option<String> {
    let is_empty = *extra == MessageExtra::default();
    (!is_empty).then(|| serde_json::to_string(extra).expect("it has string keys only and no failing parts"))
}

/// Parses what SQL keeps in `messages.extra`.
pub(in crate::storage) fn decode_extra(json: Option<&str>) -> Result<Option<Box<MessageExtra>>, sqlx::Error> {
    json.map(serde_json::from_str).transpose().map_err(|error| sqlx::Error::Decode(error.into()))
}
