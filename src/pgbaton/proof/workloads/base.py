"""What a workload is: tables, clients, what each asks next, and what a look at the end shows.

What operations of the workloads look like in a history (``workload``, ``call``, ``value`` → ``result``):

========  ========  =======================================  ==============================================  =====
workload  call      value                                    result                                          kind
========  ========  =======================================  ==============================================  =====
set       add       None: (client, id) is the element        None                                            WRITE
set       newest    name of a writing client                 newest id of it that the server shows, or None  READ
register  write     [key, new]                               None                                            WRITE
register  cas       [key, old, new]                          True: changed; False: another value was there   WRITE, QUERY when False
register  read      [key]                                    the value, None when there is none yet          QUERY
bank      transfer  [from, to, amount]                       True: done; False: not enough there             WRITE, QUERY when False
bank      total     None                                     [[account, balance], …]                         QUERY or READ
append    txn       [["append", key, x], ["r", key, null] …]  the same, each "r" with the list it saw         WRITE, QUERY without append
========  ========  =======================================  ==============================================  =====

A result is known for outcome ok alone. Elements are unique for their key, keys and accounts are integers.
"""  # noqa: E501 - a table

from __future__ import annotations
