-- Logins of the registry, each with what it needs and nothing else. Run as the owner of the tables, who may also make roles:
--
--     paretune migrate --registry postgresql://OWNER@HOST/paretune
--     psql postgresql://OWNER@HOST/paretune -f deploy/postgres/roles.sql
--     psql postgresql://OWNER@HOST/paretune -c '\password paretune_service'      -- or see below
--
-- Again after each release that brings migrations; it may be run as often as one likes. What it does not grant it does not take away.
--
-- Variables (psql -v NAME=VALUE): schema, and service, console, guard for other names. Passwords, if any, come from the environment:
-- PARETUNE_SERVICE_PASSWORD, PARETUNE_CONSOLE_PASSWORD, PARETUNE_GUARD_PASSWORD. psql 14 or later.
\set ON_ERROR_STOP on
\getenv service_password PARETUNE_SERVICE_PASSWORD
\getenv console_password PARETUNE_CONSOLE_PASSWORD
\getenv guard_password PARETUNE_GUARD_PASSWORD
\if :{?schema}
\else
\set schema public
\endif
\if :{?service}
\else
\set service paretune_service
\endif
\if :{?console}
\else
\set console paretune_console
\endif
\if :{?guard}
\else
\set guard paretune_guard
\endif

SELECT format('CREATE ROLE %I LOGIN', name)
FROM (VALUES (:'service'), (:'console'), (:'guard')) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
\if :{?service_password}
ALTER ROLE :"service" PASSWORD :'service_password';
\endif
\if :{?console_password}
ALTER ROLE :"console" PASSWORD :'console_password';
\endif
\if :{?guard_password}
ALTER ROLE :"guard" PASSWORD :'guard_password';
\endif

BEGIN;
SET LOCAL search_path TO :"schema";
GRANT USAGE ON SCHEMA :"schema" TO :"service", :"console", :"guard";

-- paretune serve: plans and bundles, read only.
ALTER ROLE :"service" SET default_transaction_read_only = on;
GRANT SELECT ON in_force, plans, bundles, bundle_files TO :"service";

-- paretune guard: reads what is in force and why, puts another version in force, and signs for it.
GRANT SELECT ON alembic_version, in_force, plans, activations, policies, evidence, bundles, bundle_files, rules, audit TO :"guard";
GRANT INSERT ON plans, activations, audit TO :"guard";
GRANT UPDATE ON in_force TO :"guard";

-- paretune console, publish, approve, activate, readout --record: everything that people do. What is only added to stays so: no UPDATE,
-- no DELETE, and the triggers belong to the owner.
GRANT SELECT ON alembic_version, in_force, plans, activations, policies, evidence, bundles, bundle_files, rules, audit, fronts, outcomes,
    accounts, sessions, tokens TO :"console";
GRANT INSERT ON plans, activations, policies, evidence, bundles, bundle_files, audit, fronts, outcomes, accounts, sessions, tokens
    TO :"console";
GRANT UPDATE ON in_force, policies, rules, accounts, sessions, tokens TO :"console";
GRANT DELETE ON sessions, tokens TO :"console";
COMMIT;
