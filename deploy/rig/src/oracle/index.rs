//! Posts and messages by their texts, for fast look-ups.

use std::collections::HashMap;

use crate::evidence::{Digest, Evidence, Message, Post};

/// An index of the evidence of one run.
pub(super) struct Index<'a> {
    pub(super) posts: HashMap<Digest, &'a Post>,
    /// Where a text is in history: room and message.
    messages: HashMap<Digest, Vec<(usize, Message)>>,
}

impl<'a> Index<'a> {
    pub(super) fn of(evidence: &'a Evidence) -> Self {
        let posts = evidence.posts.iter().map(|post| (post.text, post)).collect();
        let mut messages: HashMap<Digest, Vec<(usize, Message)>> = HashMap::new();
        for (room, history) in evidence.history.iter().enumerate() {
            for message in history {
                messages.entry(message.text).or_default().push((room, *message));
            }
        }
        Self { posts, messages }
    }

    /// The messages in history that have the text of a post, with their rooms.
    pub(super) fn messages_of(&self, post: &Post) -> &[(usize, Message)] {
        self.messages.get(&post.text).map_or(&[], Vec::as_slice)
    }

    /// The seq of a post in its room, if it is there.
    pub(super) fn seq_of(&self, post: &Post) -> Option<i64> {
        self.messages_of(post).iter().find(|(room, _)| *room == post.room).map(|(_, message)| message.seq)
    }
}

/// How the sentence of a violation refers to a post.
pub(super) fn describe(post: &Post) -> String {
    format!("message {} of sender {} in room {}", post.number, post.sender, post.room)
}
