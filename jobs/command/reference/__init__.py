"""The config reference: `cemiface explain`, its page and the JSON schema."""
