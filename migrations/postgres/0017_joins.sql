-- Where in the log of a room a membership began, found by its member and time.
CREATE INDEX changes_of_member ON changes (member_id, room_id, created_on) WHERE member_id IS NOT NULL;
