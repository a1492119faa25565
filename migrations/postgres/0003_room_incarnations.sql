-- No two rooms are the same incarnation of a name: a creation that missed a deletion beside it fails instead of taking
-- over the earlier room's cursors.
CREATE UNIQUE INDEX rooms_incarnation ON rooms (name, incarnation);
