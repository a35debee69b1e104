-- W3C traceparent of the charge, for the messages and looks to come; null where there was no trace.
alter table payments.attempt add column trace text;
