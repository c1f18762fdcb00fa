"""What an impression server does, whatever carries its requests and stores its sessions.

`engine` decides requests, ends sessions and puts configurations in force; `shared_engine` does the same for sessions
that several servers share. Neither knows HTTP, files, Redis or a clock: `interfaces` says what they need from outside,
and `iserver.app` hands it in. Start with `Engine.features`, then `Engine.sweep`.
"""
