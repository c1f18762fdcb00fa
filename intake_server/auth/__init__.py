"""Who a caller is, and which entries it may see: auth plugins, API keys, and the checks that ask them.

The room decides yes or no and nothing else: it finds no entries and sends no answers. Start reading at `plugins`;
`authorizer` is what the rest of the server calls.
"""
