"""Every way in and out: pages, JSON, sockets, tasks, mail. Decides nothing."""
