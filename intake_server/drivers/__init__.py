"""One module a kind of data, behind the protocol in `drivers.base`."""
