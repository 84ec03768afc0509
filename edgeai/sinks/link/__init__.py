"""A metered or thin link: budgets, hours, packed events, small pictures first."""
