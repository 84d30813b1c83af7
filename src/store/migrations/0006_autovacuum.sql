-- The figures of `status` come from the index alone where pages are known to be visible to all; rows of runs are
-- changed two or three times and read for an hour, so that is to be found out sooner than by a fifth of the table.
ALTER TABLE runs SET (
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_insert_scale_factor = 0.02,
  autovacuum_analyze_scale_factor = 0.05
);
