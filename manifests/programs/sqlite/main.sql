PRAGMA journal_mode = wal;
CREATE TABLE city (name TEXT PRIMARY KEY, people INTEGER NOT NULL);
BEGIN;
INSERT INTO city VALUES ('Bern', 134), ('Basel', 173), ('Chur', 38);
COMMIT;
SELECT name, people FROM city WHERE people > 100 ORDER BY people;
PRAGMA integrity_check;
.quit
