"""Operations on a cluster that a person fails over: what Patroni does elsewhere is done here, step by step."""
