-- The tags that devices get by a trust rule.

CREATE TABLE trust_rule_tags (
    rule_id TEXT NOT NULL REFERENCES trust_rules (id) ON DELETE CASCADE,
    tag     TEXT NOT NULL,
    PRIMARY KEY (rule_id, tag)
) STRICT;
