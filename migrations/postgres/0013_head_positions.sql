-- The partition of the room, and the position of its last entry: by them those who follow many rooms find the ones that moved,
-- without asking for each of the others. Only the program can tell the partition, so it fills these for earlier rows when it
-- starts. NULL: not filled yet.
-- block: the position divided by 1,024. The index has it in place of the position: for a row that moves within a block Postgres
-- writes no entries into indexes, and commits to few rooms stay as cheap as they were.
ALTER TABLE room_heads ADD COLUMN partition bigint;
ALTER TABLE room_heads ADD COLUMN position  bigint;
ALTER TABLE room_heads ADD COLUMN block     bigint;
CREATE INDEX room_heads_block            ON room_heads (partition, block);
CREATE INDEX room_heads_without_position ON room_heads (room_id) WHERE partition IS NULL;
