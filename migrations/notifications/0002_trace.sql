-- W3C traceparent of the event, for the sending to come; null where there was no trace.
alter table notifications.delivery add column trace text;
