"""Operations on a whole run or server: users, backup, checks of components."""
