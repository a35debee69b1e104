-- Reads every row, and lets others write meanwhile.

alter table risk.screening validate constraint screening_forward_known;
alter table risk.screening validate constraint screening_has_reply;
alter table risk.screening validate constraint screening_tombstone_is_empty;
