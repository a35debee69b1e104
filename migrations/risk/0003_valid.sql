-- Reads every row, and lets others write meanwhile.

alter table risk.screening validate constraint screening_review_known;
alter table risk.screening validate constraint screening_review_agrees;
alter table risk.screening validate constraint screening_review_is_whole;
