"""How services are spoken to: connections, certificates, HTTP/1.1 at both ends, PostgreSQL's protocol."""
