-- A review whose saga turned round: nobody needs to decide it any more. What is there already is looked at by the next
-- migration, which locks nobody out.

alter table risk.screening
    drop constraint screening_review_known,
    drop constraint screening_review_agrees,
    drop constraint screening_review_is_whole,
    add constraint screening_review_known
        check (review_state in ('OPEN', 'APPROVED', 'DECLINED', 'EXPIRED', 'WITHDRAWN')) not valid,
    add constraint screening_review_agrees check (
        case review_state when 'APPROVED' then forward_outcome = 'DONE'
                          when 'DECLINED' then forward_outcome = 'REFUSED'
                          when 'EXPIRED' then forward_outcome = 'REFUSED'
                          when 'WITHDRAWN' then forward_outcome = 'REFUSED' else true end
    ) not valid,
    add constraint screening_review_is_whole check (
        (review_state is null) = (rule is null) and (review_state is null) = (expire_time is null)
        and (decide_time is not null)
            = (review_state in ('APPROVED', 'DECLINED', 'EXPIRED', 'WITHDRAWN') and review_state is not null)
        and (reviewer is not null) = (review_state in ('APPROVED', 'DECLINED') and review_state is not null)
    ) not valid;
