CREATE TABLE recipients (
    address   TEXT PRIMARY KEY, -- mail.Address.Key
    confirmed INTEGER NOT NULL  -- seconds since 1970: when the server inside took it
) WITHOUT ROWID;
